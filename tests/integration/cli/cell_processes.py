"""A cell of processes of their own, each of which a test may kill, stop, go on with and start again.

Not `mirrorsd serve`: nobody restarts what dies here but the test. Addresses stay the same over restarts, so that
whoever dialled finds the new process. Standard library only.
"""

import os
import random
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from programs import clean_environment, program, wait_for

SCHEDULER, GATEWAY = "scheduler", "gateway"
READY_S = 60  # of a process that was just started, on a busy machine


def free_port():
    """Below the ports that the kernel gives to clients: one of those that dials a dead server again and
    again would sooner or later meet itself there, and hold the port."""
    while True:
        port = random.SystemRandom().randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def monotonic():
    """The clock of load_client and of everything here."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class LocalHost:
    """Where a process runs: here. network.Host is another one."""

    address = "127.0.0.1"
    prefix = ()  # of a command that is to run there

    @staticmethod
    def call(function):
        """What `function` yields over there."""
        return function()


class Process:
    """One role: how it is started, and the life that runs now."""

    def __init__(self, name, role, arguments, http, log_folder, host=LocalHost()):
        self.name, self.role, self.http, self.host = name, role, http, host
        self.command = [*host.prefix, program(f"mirrorsd-{role}"), *map(str, arguments)]
        self.log_path = os.path.join(log_folder, f"{name}.log")
        self.life = None
        self.started_at = 0
        self.num_lives = 0
        self.expected_to_live = False

    def start(self):
        with open(self.log_path, "ab") as log:
            self.life = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                         stderr=log, env=clean_environment())
        self.num_lives += 1
        self.started_at = monotonic()
        self.expected_to_live = True

    def age_s(self):
        return monotonic() - self.started_at

    def signal(self, number):
        self.life.send_signal(number)

    def kill(self):
        self.expected_to_live = False
        if self.life is not None:
            self.life.kill()
            self.life.wait()

    def terminate(self, timeout):
        """A graceful end; returns the exit code."""
        self.expected_to_live = False
        self.life.terminate()
        return self.life.wait(timeout=timeout)

    def died(self):
        """The exit code of a life that nobody asked to end, else none."""
        return self.life.poll() if self.expected_to_live else None

    def fetch(self, path, timeout=5):
        """(status, body); status 0 where nobody answers."""
        return self.host.call(lambda: self._fetch(path, timeout))

    def _fetch(self, path, timeout):
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, ValueError):
            return 0, ""

    def metrics(self):
        """{name: {labels as a sorted tuple: value}}; empty where nobody answers."""
        found = {}
        for line in self.fetch("/metrics")[1].splitlines():
            match = re.match(r"mirrorsd_(\w+)(?:\{(.*)\})? (\S+)$", line)
            if match:
                labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', match.group(2) or "")))
                found.setdefault(match.group(1), {})[labels] = float(match.group(3))
        return found

    def metric(self, name, **labels):
        """The sum over what has these labels; none where there is none or nobody answers."""
        values = [value for key, value in self.metrics().get(name, {}).items()
                  if set(labels.items()) <= set(key)]
        return sum(values) if values else None

    def usage(self):
        """Resident MB, threads and open files, as the kernel tells them."""
        pid = self.life.pid
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.split(":", 1) for line in file if ":" in line)
        return {"rss_mb": int(status["VmRSS"].split()[0]) / 1024,
                "threads": int(status["Threads"]), "files": len(os.listdir(f"/proc/{pid}/fd"))}

    def log_tail(self, size=3000):
        with open(self.log_path, "rb") as file:
            file.seek(max(0, os.path.getsize(self.log_path) - size))
            return file.read().decode(errors="replace")


class Cell:
    """Gateway, scheduler, and some workers of either kind."""

    def __init__(self, log_folder, target, draft, num_verifiers=2, num_drafts=2,
                 worker_timeout_s=5, drain_timeout_s=5, verifier_loss_timeout_s=60, hosts=None,
                 target_kv_mb=64):
        """`hosts`: a process's name, or "front" for all that is not named, and where it runs."""
        at = {"front": LocalHost(), **(hosts or {})}
        front = at["front"]
        listen = f"{at.get(SCHEDULER, front).address}:{free_port()}"
        grpc_port, http_port = free_port(), free_port()
        common = ("--log-level=info", "--log-format=json", f"--drain-timeout-s={drain_timeout_s}")
        self.grpc = f"{front.address}:{grpc_port}"
        self.worker_timeout_s = worker_timeout_s
        self.drain_timeout_s = drain_timeout_s
        self.processes = {}

        def add(name, role, http, *arguments):
            host = at.get(name, front)
            http = http or f"{host.address}:{free_port()}"
            if role != GATEWAY:
                arguments = ("--http-address", http, *arguments)
            self.processes[name] = Process(name, role, (*common, *arguments), http, log_folder,
                                           host)

        add(SCHEDULER, SCHEDULER, None, "--listen-address", listen, "--worker-timeout-s",
            worker_timeout_s, "--verifier-loss-timeout-s", verifier_loss_timeout_s)
        for role, count, options in (
                ("verifier-worker", num_verifiers,
                 ("--model", target, "--threads", 1, "--kv-cache-memory-bytes",
                  target_kv_mb << 20)),
                ("draft-worker", num_drafts, ("--draft-model", draft, "--draft-threads", 1,
                                              "--draft-kv-cache-memory-bytes", 32 << 20))):
            for index in range(count):
                name = f"{role}-{index}"
                add(name, role, None, "--scheduler-address", listen, "--worker-name", name,
                    *options)
        add(GATEWAY, GATEWAY, f"{front.address}:{http_port}", "--host", front.address, "--model",
            target, "--scheduler-address", listen, "--grpc-port", grpc_port, "--http-port",
            http_port)

    def __getitem__(self, name):
        return self.processes[name]

    def workers(self, role):
        return [process for process in self.processes.values() if process.role == role]

    def start(self):
        for process in self.processes.values():
            process.start()
        self.wait_until_whole()

    def is_whole(self):
        """Every process lives and every worker is attached, by the scheduler's own word. A draft may be late
        still: it proves itself by drafting, so only under a load."""
        scheduler = self[SCHEDULER]
        return (self[GATEWAY].fetch("/readyz")[0] == 200 and
                all(scheduler.metric("workers_attached", role=word) ==
                    len(self.workers(f"{word}-worker")) for word in ("verifier", "draft")) and
                scheduler.metric("workers_attached", state="draining") == 0)

    def wait_until_whole(self, timeout=READY_S):
        wait_for(self.is_whole, "a whole cell", timeout=timeout, interval=0.1)

    def kill(self):
        for process in self.processes.values():
            if process.life is not None and process.life.poll() is None:
                process.signal(signal.SIGCONT)
            process.kill()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
