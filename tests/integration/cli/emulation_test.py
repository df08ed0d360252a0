#!/usr/bin/env python3
"""Paced devices and scripted drafts, as a user meets them: recording, proposing, metrics, and what is refused.

Nothing here is timed but what is meant to be slow: a device is emulated whose passes take a quarter of a second.
"""

import json
import os
import tempfile
import time
import unittest

from programs import Serve, run

TARGET, DRAFT = "models/demo-target", "models/demo-draft"
PAIR = ("--model", TARGET, "--draft-model", DRAFT)
TOKENS = 24


def profile(name, layer_s):
    return {"format": "mirrorsd-device-profile/1", "name": name, "description": "for a test",
            "basis": "derived", "num_layers": 80, "layer": [[1, layer_s]], "head": [[1, 0]],
            "sources": {"layer": "made up", "head": "made up"}}


class ScriptedDraftTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.script = os.path.join(cls.folder.name, "said.jsonl")
        cls.recorded = run("bench", "record", "--model", TARGET, "--record", cls.script,
                           "--prompts-per-category", 1, "--max-tokens", TOKENS, "--temperatures", "0,1")
        with open(f"{TARGET}/held_out_prompts.jsonl", encoding="utf-8") as file:
            prompts = [json.loads(line) for line in file]
        cls.story = next(p["turns"][0] for p in prompts if p["category"] == "story")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def answer(self, *more, temperature=0):
        done = run("generate", *PAIR, "--prompt", self.story, "--max-tokens", TOKENS, "--temperature",
                   temperature, "--seed", 1, "--output", "json", *more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_a_recording_has_what_the_target_says(self):
        self.assertEqual(self.recorded.returncode, 0, self.recorded.stderr)
        with open(self.script, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual(lines[0]["format"], "mirrorsd-draft-script/1")
        stories = [line for line in lines[1:] if line["kind"] == "story"]
        self.assertEqual(len(stories), 2)  # one for each temperature
        for line, temperature in zip(stories, (0, 1)):
            said = self.answer("--speculation", "off", temperature=temperature)["token_ids"]
            self.assertEqual(line["token_ids"][:len(said)], said)

    def test_the_draft_agrees_as_it_was_told_and_the_tokens_stay(self):
        for temperature in (0, 1):
            plain = self.answer("--speculation", "off", temperature=temperature)
            for agreement in (0, 1):
                answer = self.answer("--draft-script", self.script, "--draft-script-agreement", agreement,
                                     temperature=temperature)
                self.assertEqual(answer["token_ids"], plain["token_ids"])
                speculation = answer["speculation"]
                # A draft that came too late for every round of so short an answer says nothing.
                if speculation["drafted_tokens"] == 0:
                    continue
                expected = agreement * speculation["drafted_tokens"]
                self.assertEqual(speculation["accepted_tokens"], expected)

    def test_what_is_refused(self):
        def refused(words, *options):
            done = run("generate", *PAIR, "--prompt", "x", "--max-tokens", 2, *options)
            self.assertIn(done.returncode, (2, 3), done.stderr)
            self.assertIn(words, done.stderr)
        bad = os.path.join(self.folder.name, "bad.jsonl")
        with open(bad, "w", encoding="utf-8") as file:
            file.write('{"format": "mirrorsd-draft-script/1", "model": "m", "vocabulary_size": 9}\n'
                       '{"kind": "k", "prompt_ids": [1], "token_ids": [9]}\n')
        refused("bad.jsonl:2: token_ids[0]", "--draft-script", bad)
        refused("no kind 'opera'", "--draft-script", self.script, "--draft-script-agreement", "opera=1,0.5")
        refused("has no share", "--draft-script", self.script, "--draft-script-agreement", "often")
        done = run("bench", "record", "--model", TARGET)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--record", done.stderr)

    def test_a_report_says_what_is_synthetic(self):
        lines = os.path.join(self.folder.name, "rounds.jsonl")
        def report(*options):
            done = run("bench", "rounds", "--prompts", f"{TARGET}/held_out_prompts.jsonl", "--categories", "story",
                       "--prompts-per-category", 1, "--windows", 2, "--repeats", 2, "--max-tokens", 8,
                       "--label", "a run", "--json", lines, *options)
            self.assertIn(done.returncode, (0, 1), done.stderr)  # 1: void, where a device had no core in time
            with open(lines, encoding="utf-8") as file:
                return done.stdout, json.loads(file.readlines()[-1])
        text, line = report(*PAIR)
        self.assertNotIn("ynthetic", text)
        self.assertEqual((line["what"], line["synthetic"]), ("a run", False))
        text, line = report(*PAIR, "--draft-script", self.script)
        self.assertIn("Synthetic: agreement.", text)
        self.assertEqual((line["what"], line["synthetic"]), ("a run (synthetic agreement)", True))
        text, line = report("--load-format", "twin:micro", "--device-profile", "h100-llama-3.2-1b")
        self.assertIn("Synthetic: weights, step times.", text)
        self.assertEqual((line["what"], line["synthetic"]), ("a run (synthetic weights, step times)", True))


class PacedDeviceTest(unittest.TestCase):
    def test_steps_last_as_long_as_the_devices_and_are_counted(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "slow.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(profile("slow", 0.25 / 80), file)
            with Serve("--model", TARGET, "--device-profile", path) as serve:
                started = time.monotonic()
                done = serve.generate("--prompt", "Once", "--max-tokens", 4, "--ignore-eos")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertGreaterEqual(time.monotonic() - started, 4 * 0.25)
                # A pass is two steps at least; how many of them were late is the machine's business.
                self.assertGreaterEqual(serve.metric("paced_steps_total", role="verifier-worker"), 4)
                self.assertIsNotNone(serve.metric("paced_overruns_total", role="verifier-worker"))

    def test_a_run_that_cannot_keep_its_times_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "fast.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(profile("fast", 0), file)
            done = run("generate", "--model", TARGET, "--device-profile", path, "--prompt", "Once",
                       "--max-tokens", 4)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("VOID", done.stderr)

    def test_profiles_by_name_and_what_is_refused(self):
        done = run("generate", "--model", TARGET, "--device-profile", "abacus", "--prompt", "x")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("npu-qwen3-0.6b", done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bad.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump({**profile("bad", 1e-3), "speed": 3}, file)
            done = run("generate", "--model", TARGET, "--device-profile", path, "--prompt", "x")
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn("speed is not known", done.stderr)


if __name__ == "__main__":
    unittest.main()
