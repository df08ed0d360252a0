"""A life recorded by the real programs and drawn by mirrorsd trace: valid Chrome trace JSON, and a strip of letters."""

import json
import os
import signal
import stat
import tempfile
import unittest

from programs import TARGET, Serve, run, wait_for

USAGE, BAD_INPUT = 2, 3
PHASES = ("prefix", "suffix")


def check_schema(test, events):
    """What chrome://tracing asks of the events that are used here; returns them by their kind."""
    kinds = {}
    for event in events:
        kinds.setdefault(event["ph"], []).append(event)
        test.assertIsInstance(event["pid"], int)
        test.assertIsInstance(event["tid"], int)
        test.assertIsInstance(event["ts"], (int, float))
        test.assertGreaterEqual(event["ts"], 0)
        test.assertIsInstance(event["name"], str)
        if event["ph"] == "X":
            test.assertGreaterEqual(event["dur"], 0)
        elif event["ph"] == "M":
            test.assertIn(event["name"], ("process_name", "thread_name"))
            test.assertIsInstance(event["args"]["name"], str)
        else:
            test.assertIn(event["ph"], ("s", "t", "f"))
            test.assertIsInstance(event["id"], int)
    lanes = {(event["pid"], event["tid"]) for event in kinds["M"] if event["name"] == "thread_name"}
    test.assertLessEqual({(event["pid"], event["tid"]) for event in kinds["X"]}, lanes)
    for pid, tid in lanes:
        check_nesting(test, [event for event in kinds["X"] if (event["pid"], event["tid"]) == (pid, tid)])
    return kinds


def check_nesting(test, slices):
    """Slices of one thread lie inside one another or behind one another."""
    open_until = []
    for each in sorted(slices, key=lambda e: (e["ts"], -e["dur"])):
        end = each["ts"] + each["dur"]
        while open_until and open_until[-1] <= each["ts"] + 0.002:
            open_until.pop()
        test.assertTrue(not open_until or end <= open_until[-1] + 0.002, each)
        open_until.append(end)


class Traces(unittest.TestCase):
    def record(self, folder, *options):
        life = os.path.join(folder, "life")
        with Serve("--model", TARGET, "--draft-model", TARGET, "--journal", life,
                   "--journal-ring-dir", folder, *options) as cell:
            for request_id in ("tale", "song"):
                done = cell.generate("--prompt", "Once upon a time", "--max-tokens", 40, "--ignore-eos",
                                     "--request-id", request_id, "--output", "json")
                self.assertEqual(done.returncode, 0, done.stderr)
            os.kill(cell.process.pid, signal.SIGUSR1)
            ring = wait_for(lambda: [name for name in os.listdir(folder)
                                     if name.startswith("mirrorsd-ring-")], "the ring")[0]
            cell.terminate()
            self.assertEqual(cell.wait(), 0, cell.stderr())
        return life, os.path.join(folder, ring), json.loads(done.stdout)["speculation"]

    def draw(self, life, folder, *options):
        out = os.path.join(folder, "trace.json")
        done = run("trace", "--journal", life, "--out", out, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(stat.S_IMODE(os.stat(out).st_mode), 0o600)
        with open(out, encoding="utf-8") as file:
            return done.stdout, check_schema(self, json.load(file)["traceEvents"])

    def test_serial(self):
        with tempfile.TemporaryDirectory() as folder:
            life, ring, said = self.record(folder)
            strip, kinds = self.draw(life, folder, "--request", "song")
            self.assertIn("verifier verifier", strip)
            self.assertRegex(strip, r"draft draft +serial \|.*S")
            names = [event["name"] for event in kinds["X"]]
            for phase in PHASES:
                self.assertIn(phase, names)
            windows = [event["args"]["requests"][0]["window"] for event in kinds["X"]
                       if event["name"].startswith("round ") and "window" in event["args"]["requests"][0]]
            self.assertEqual(len(windows), said["rounds"])
            self.assertEqual(sum(windows), said["drafted_tokens"])
            self.assertEqual(len(kinds["s"]), len(kinds["f"]))
            self.check_refusals(folder, life, ring)

    def test_mirror(self):
        for fallback in ("empty", "ngram", "hold"):
            with self.subTest(fallback=fallback), tempfile.TemporaryDirectory() as folder:
                life, ring, said = self.record(folder, "--speculation", "mirror", "--miss-fallback", fallback)
                _, kinds = self.draw(life, folder, "--request", "song")
                rounds = [event["args"]["requests"][0] for event in kinds["X"]
                          if event["name"].startswith("round ")]
                hits = [each["hit_depth"] for each in rounds if "hit_depth" in each]
                # What the trace reads off the messages is what the core counted.
                self.assertEqual(len(hits), said["branch_hits"])
                self.assertAlmostEqual(sum(hits), said["branch_hits"] * said["branch_hit_depth"], places=6)
                self.assertEqual(sum("miss" in each for each in rounds), said["branch_misses"])
                self.assertTrue(any(event["name"].startswith("P1") for event in kinds["X"]))
                for words in ("early exit, ", "to roll out ", "branch that hit, " if hits else "miss ("):
                    for file in (life, ring):
                        self.assertIn(words, run(file, "--story", "song", name="mirrorsd-replay").stdout)

    def check_refusals(self, folder, life, ring):
        for arguments, code, words in (
                ((), USAGE, "--journal"),
                (("--journal", life, "--rounds", "3:2"), USAGE, "FROM:TO"),
                (("--journal", life, "--request", "ghost"), BAD_INPUT, "--request"),
                (("--journal", life, "--rounds", "999999:1000000"), BAD_INPUT, "--rounds"),
                (("--journal", ring), BAD_INPUT, "cannot be repeated"),
                (("--journal", os.path.join(folder, "none")), BAD_INPUT, "none")):
            done = run("trace", *arguments)
            self.assertEqual(done.returncode, code, (arguments, done.stderr))
            self.assertIn(words, done.stderr, arguments)
        with open(life, "rb") as file:
            good = bytearray(file.read())
        middle = len(good) // 2
        for name, content in (("garbage", os.urandom(4096)), ("empty", b""),
                              ("flipped", good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1:])):
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(content)
            done = run("trace", "--journal", path)
            self.assertEqual(done.returncode, BAD_INPUT, (name, done.stderr))
            self.assertIn(name, done.stderr)


if __name__ == "__main__":
    unittest.main()
