"""Runs the real programs for the tests beside this file. Standard library only."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

BIN = os.environ.get("MIRRORSD_BIN", "build/release/bin")
GOLDEN = "tests/golden"
TARGET = f"{GOLDEN}/llama3-gqa-tied-bf16"
OTHER_VOCABULARY = f"{GOLDEN}/llama2-mha-f32"
DEADLINE_S = 120  # of everything here: a hang is a failure, not a wait


def program(name="mirrorsd"):
    return os.path.join(BIN, name)


def clean_environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MIRRORSD_")}
    return {**kept, **more}


def run(*arguments, name="mirrorsd", stdin="", env=None, timeout=DEADLINE_S):
    """The finished process; its output as text."""
    return subprocess.run([program(name), *map(str, arguments)], input=stdin, capture_output=True,
                          text=True, errors="replace", timeout=timeout,
                          env=env or clean_environment())


def expected(folder=TARGET):
    with open(f"{folder}/expected.json", encoding="utf-8") as file:
        return json.load(file)


def ids_text(ids):
    return ",".join(map(str, ids))


def wait_for(condition, what, timeout=DEADLINE_S, interval=0.01):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(interval)
    raise AssertionError(f"waited {timeout} s in vain for {what}")


class Serve:
    """`mirrorsd serve` as a context: its ports, its lines, its end."""

    def __init__(self, *arguments, ready=True):
        self.log = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            [program(), "serve", "--grpc-port=0", "--http-port=0", "--log-level=warning",
             *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=clean_environment())
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            self.grpc = self.wait_line(r"^grpc +(\S+)$")
            self.http = self.wait_line(r"^http +(\S+) ")
            if ready:
                self.wait_line(r"^(ready)$")
        except AssertionError:
            self.kill()
            raise

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_line(self, pattern, after=0):
        def look():
            for line in list(self.lines)[after:]:
                match = re.search(pattern, line)
                if match:
                    return match.group(1)
            if self.process.poll() is not None:
                raise AssertionError(f"serve ended with {self.process.returncode}:\n" + self.stderr())
            return None
        return wait_for(look, f"a line {pattern} in {self.lines}")

    def pid(self, role):
        """Of the child that was started last."""
        started = [re.match(rf"{role} started, pid (\d+)", line) for line in self.lines]
        return int([match.group(1) for match in started if match][-1])

    def get(self, path):
        """(status, body); status 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name, **labels):
        """The sum of the metrics of this name that have these labels; none if there is none."""
        total = None
        for line in self.get("/metrics")[1].splitlines():
            match = re.match(r"mirrorsd_(\w+)(?:\{(.*)\})? (\S+)$", line)
            if not match or match.group(1) != name:
                continue
            found = dict(re.findall(r'(\w+)="([^"]*)"', match.group(2) or ""))
            if all(found.get(key) == value for key, value in labels.items()):
                total = (total or 0) + float(match.group(3))
        return total

    def generate(self, *arguments, **options):
        return run("generate", "--server", self.grpc, *arguments, **options)

    def start_generate(self, *arguments):
        """A client that runs on; its output is read by communicate()."""
        return subprocess.Popen([program(), "generate", "--server", self.grpc, *map(str, arguments)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=clean_environment())

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        return self.process.wait(timeout=DEADLINE_S)

    def stderr(self):
        self.log.seek(0)
        return self.log.read()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(timeout=10)
        self.process.stdout.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
