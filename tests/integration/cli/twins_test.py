"""Twins as a user meets them: in memory, as files, served by separate processes, measured, and refused."""

import json
import math
import os
import struct
import tempfile
import unittest

from programs import Serve, run

DONE, USAGE, BAD_INPUT = 0, 2, 3


def tokens(*arguments):
    done = run("generate", *arguments, "--prompt", "Hello", "--max-tokens", 24, "--output", "json")
    assert done.returncode == DONE, done.stderr
    return json.loads(done.stdout)["token_ids"]


def read_gguf(path):
    """Metadata and tensors (name: (shape, type, bytes)) of a GGUF file, by the format's own description."""
    with open(path, "rb") as file:
        data = file.read()
    at = 0

    def take(form):
        nonlocal at
        value = struct.unpack_from("<" + form, data, at)[0]
        at += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal at
        size = take("Q")
        at += size
        return data[at - size:at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner = take("I")
            return [value(inner) for _ in range(take("Q"))]
        return take({4: "I", 5: "i", 6: "f", 7: "?", 10: "Q"}[kind])

    assert data[:4] == b"GGUF"
    at = 4
    assert take("I") == 3
    num_tensors, num_values = take("Q"), take("Q")
    metadata = {}
    for _ in range(num_values):
        key = text()
        metadata[key] = value(take("I"))
    table = []
    for _ in range(num_tensors):
        name = text()
        shape = [take("Q") for _ in range(take("I"))]
        table.append((name, shape[::-1], take("I"), take("Q")))
    begin = (at + 31) // 32 * 32
    tensors = {}
    for name, shape, kind, offset in table:
        assert offset % 32 == 0
        size = math.prod(shape) * {0: 4, 30: 2}[kind]
        tensors[name] = (shape, kind, data[begin + offset:begin + offset + size])
        assert len(tensors[name][2]) == size
    return metadata, tensors


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    return {name: (each["shape"], data[8 + size + each["data_offsets"][0]:8 + size + each["data_offsets"][1]])
            for name, each in header.items() if name != "__metadata__"}


class Twins(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def test_memory_files_and_processes_give_the_same_tokens(self):
        in_memory = tokens("--load-format", "twin:micro,seed=3,draft-damping=0.1,exit-damping=0.1")
        self.assertEqual(len(in_memory), 24)
        made = run("make-twin", "--shape", "micro", "--seed", 3, "--draft-damping", 0.1,
                   "--exit-damping", 0.1, "--out", self.path("t"), "--draft-out", self.path("d"))
        self.assertEqual(made.returncode, DONE, made.stderr)
        self.assertIn("synthetic", made.stdout)
        folders = ("--model", self.path("t"), "--draft-model", self.path("d"))
        self.assertEqual(tokens(*folders), in_memory)
        self.assertEqual(tokens(*folders, "--speculation", "off"), in_memory)
        self.assertEqual(tokens("--load-format", f"twin:{self.path('t')}/twin.json"), in_memory)
        with Serve("--load-format", "twin:micro,seed=3,draft-damping=0.1,exit-damping=0.1",
                   "--separate-processes") as serve:
            answer = serve.generate("--prompt", "Hello", "--max-tokens", 24, "--output", "json")
            self.assertEqual(json.loads(answer.stdout)["token_ids"], in_memory)

    def test_nothing_is_overwritten_unasked(self):
        arguments = ("make-twin", "--shape", "micro", "--out", self.path("t"))
        self.assertEqual(run(*arguments).returncode, DONE)
        refused = run(*arguments)
        self.assertEqual(refused.returncode, USAGE)
        self.assertIn("--force", refused.stderr)
        self.assertEqual(run(*arguments, "--force").returncode, DONE)

    def test_a_gguf_file_holds_the_same_weights(self):
        made = run("make-twin", "--shape", "micro", "--seed", 5, "--out", self.path("t"),
                   "--gguf", self.path("t.gguf"))
        self.assertEqual(made.returncode, DONE, made.stderr)
        metadata, tensors = read_gguf(self.path("t.gguf"))
        ours = read_safetensors(self.path("t/model.safetensors"))
        self.assertEqual(len(tensors), len(ours))
        self.assertEqual(metadata["general.architecture"], "llama")
        self.assertEqual(metadata["llama.block_count"], 8)
        self.assertEqual(metadata["llama.attention.head_count_kv"], 2)
        tokens = metadata["tokenizer.ggml.tokens"]
        with open(self.path("t/tokenizer.json"), encoding="utf-8") as file:
            vocabulary = json.load(file)["model"]["vocab"]
        self.assertEqual({text: id for id, text in enumerate(tokens)}, vocabulary)
        self.assertEqual(tensors["token_embd.weight"], ([320, 32], 30, ours["model.embed_tokens.weight"][1]))
        self.assertEqual(tensors["blk.7.ffn_down.weight"],
                         ([32, 64], 30, ours["model.layers.7.mlp.down_proj.weight"][1]))
        # Vectors in f32: bf16 of them is what the folder has.
        shape, kind, norm = tensors["blk.3.attn_norm.weight"]
        self.assertEqual((shape, kind), ([32], 0))
        folder = struct.unpack("<32H", ours["model.layers.3.input_layernorm.weight"][1])
        for number, half in zip(struct.unpack("<32f", norm), folder):
            self.assertAlmostEqual(number, struct.unpack("<f", struct.pack("<I", half << 16))[0], delta=0.005)
        # Halves of a head become neighbours.
        head, row_bytes = 8, 64
        for name, ours_name, heads in (("q", "q", 4), ("k", "k", 2)):
            theirs = tensors[f"blk.2.attn_{name}.weight"][2]
            mine = ours[f"model.layers.2.self_attn.{ours_name}_proj.weight"][1]
            for row in range(heads * head):
                block, within = divmod(row, head)
                half, i = divmod(within, head // 2)
                at = block * head + 2 * i + half
                self.assertEqual(theirs[at * row_bytes:(at + 1) * row_bytes],
                                 mine[row * row_bytes:(row + 1) * row_bytes])
        self.assertEqual(run("make-twin", "--shape", "micro", "--gguf", self.path("t.gguf")).returncode, USAGE)
        refused = run("make-twin", "--shape", "llama-3.1-8b", "--gguf", self.path("l.gguf"))
        self.assertEqual(refused.returncode, USAGE)
        self.assertIn("RoPE", refused.stderr)

    def test_a_wish_is_measured_and_kept(self):
        made = run("make-twin", "--shape", "micro", "--agreement", 0.7, "--exit-recall", 0.85,
                   "--tolerance", 0.02, "--measured-prompts", 32, "--twin-json", self.path("a.json"))
        self.assertEqual(made.returncode, DONE, made.stderr)
        with open(self.path("a.json"), encoding="utf-8") as file:
            twin = json.load(file)
        self.assertIs(twin["synthetic"], True)
        self.assertAlmostEqual(twin["measured"]["agreement"], 0.7, delta=0.06)
        self.assertAlmostEqual(twin["measured"]["exit_recall"], 0.85, delta=0.06)
        bench = run("bench", "agreement", "--load-format", f"twin:{self.path('a.json')}",
                    "--max-tokens", 32, "--temperatures", "0,1", "--json", self.path("a.jsonl"),
                    "--svg", self.path("plots"))
        self.assertEqual(bench.returncode, DONE, bench.stderr)
        self.assertIn("(synthetic)", bench.stdout)
        with open(self.path("a.jsonl"), encoding="utf-8") as file:
            figures = json.loads(file.read())["figures"]
        self.assertIs(figures["synthetic"], True)
        self.assertAlmostEqual(figures["temperature 0"]["all"]["agreement"]["value"], 0.7, delta=0.08)
        sampled = figures["temperature 1"]["all"]
        self.assertGreaterEqual(sampled["agreement"]["value"] + sampled["agreement"]["plus_minus"],
                                sampled["coupled_bound"]["value"])
        self.assertLess(sampled["coupled_bound"]["value"], sampled["ratio_test"]["value"])
        self.assertEqual(sorted(os.listdir(self.path("plots"))),
                         ["acceptance_t1.svg", "agreement_t0.svg", "agreement_t1.svg",
                          "recall_given_reject_t0.svg", "recall_given_reject_t1.svg"])

    def test_what_cannot_be_is_a_usage_error_that_says_why(self):
        for arguments, said in (
                (("generate", "--load-format", "twin:nano", "--prompt", "x"), "micro, small, 0.5b"),
                (("generate", "--load-format", "gguf", "--prompt", "x"), "auto or twin:SHAPE"),
                (("generate", "--load-format", "twin:micro", "--model", "m", "--prompt", "x"), "one of the two"),
                (("serve", "--load-format", "twin:micro,agreement=0.5"), "make-twin"),
                (("make-twin", "--shape", "micro", "--agreement", 0.9, "--exit-recall", 0.5), "scripted draft"),
                (("make-twin", "--shape", "llama-3.1-8b", "--agreement", 0.5), "--draft-damping"),
                (("make-twin",), "--shape")):
            with self.subTest(arguments):
                done = run(*arguments)
                self.assertEqual(done.returncode, USAGE, done.stderr)
                self.assertIn(said, done.stderr)

    def test_twins_of_every_family(self):
        for folder in ("mistral-window-bf16", "qwen2-bias-f32", "qwen3-qknorm-bf16", "opt-relu-f32"):
            with self.subTest(folder):
                done = run("generate", "--load-format", f"twin:tests/golden/{folder}/config.json",
                           "--prompt", "x", "--max-tokens", 24, "--ignore-eos", "--show-statistics",
                           "--speculation", "serial")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("24 tokens", done.stderr)


if __name__ == "__main__":
    unittest.main()
