"""A life recorded by the real programs and repeated by mirrorsd-replay, whose answers to bad input are checked too."""

import os
import re
import signal
import tempfile
import unittest

from programs import TARGET, Serve, run, wait_for

EXACT, USAGE, BAD_FILE = 0, 2, 3


def replay(*arguments):
    return run(*arguments, name="mirrorsd-replay")


class RecordedLife(unittest.TestCase):
    def test_repeats_tells_and_dumps(self):
        with tempfile.TemporaryDirectory() as folder:
            life = os.path.join(folder, "life")
            with Serve("--model", TARGET, "--draft-model", TARGET, "--journal", life,
                       "--journal-ring-dir", folder) as cell:
                done = cell.generate("--prompt", "Once upon a time", "--max-tokens", 40,
                                     "--ignore-eos", "--request-id", "tale")
                self.assertEqual(done.returncode, 0, done.stderr)
                os.kill(cell.process.pid, signal.SIGUSR1)
                ring = wait_for(lambda: [name for name in os.listdir(folder)
                                         if name.startswith("mirrorsd-ring-")], "the ring")[0]
                cell.terminate()
                self.assertEqual(cell.wait(), 0, cell.stderr())
            repeated = replay(life)
            self.assertRegex(repeated.stdout, r"^\d+ events, \d+ actions, exact\n$", repeated.stderr)
            self.assertEqual(repeated.returncode, EXACT)
            for file in (life, os.path.join(folder, ring)):
                story = replay(file, "--story", "tale")
                self.assertEqual(story.returncode, EXACT, story.stderr)
                for words in ("submitted: ", "placed at verifier", "window of 4", "ended: length"):
                    self.assertIn(words, story.stdout)
            self.assertEqual(replay(os.path.join(folder, ring)).returncode, BAD_FILE)
            scenario = replay(life, "--scenario=1:10")
            self.assertEqual(len(re.findall("^at ", scenario.stdout, re.MULTILINE)), 10)
            self.check_damage(folder, life)

    def check_damage(self, folder, life):
        with open(life, "rb") as file:
            good = bytearray(file.read())
        for name, content, code, words in (
                ("torn", good[:-3], EXACT, "part of a record"),
                ("flipped", good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], BAD_FILE, "damaged"),
                ("empty", b"", BAD_FILE, "no journal"),
                ("garbage", os.urandom(4096), BAD_FILE, "no journal")):
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(content)
            done = replay(path)
            self.assertEqual(done.returncode, code, (name, done.stdout, done.stderr))
            self.assertIn(words, done.stderr, name)


class Arguments(unittest.TestCase):
    def test_help_and_usage(self):
        self.assertIn("--story REQUEST_ID", replay("--help").stdout)
        for arguments in ((), ("--tale", "x"), ("a", "b"), ("a", "--story"),
                          ("a", "--story", "x", "--scenario", "1:2")):
            done = replay(*arguments)
            self.assertEqual(done.returncode, USAGE, arguments)
            self.assertIn("--help", done.stderr)
        missing = replay("/no/such/file")
        self.assertEqual(missing.returncode, BAD_FILE)
        self.assertIn("/no/such/file", missing.stderr)


if __name__ == "__main__":
    unittest.main()
