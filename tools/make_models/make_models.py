"""Makes models/demo-target and models/demo-draft from nothing but its own grammars.

    nice -n 19 python3 tools/make_models/make_models.py --out models --work DIR

Stages write into --work and are skipped when their file is there already, so that a cut run can be
taken up again: tokenizer, half, trunk, target, draft, and with --until control the target's second branch,
which was trained without the exit loss. A stage that was cut goes on from NAME.unfinished.pt.
"""

import argparse
import dataclasses
import json
import pathlib

import torch
from tokenizers import Tokenizer

from batches import encoded_documents, training_rows
from folder import read_model, write_model
from llama import Llama, LlamaShape, grow, round_to_bfloat16, shrink
from prompts import held_out_prompts
from text import train_tokenizer, write_tokenizer
from training import Budget, Phase, target_outputs, train_draft, train_target, unfinished_path

VOCAB_SIZE = 1024
CONTEXT = 1024
NUM_LAYERS, EXIT_LAYER, DRAFT_LAYERS = 12, 6, 2
# Both pairs stay under 30 MB as stored; the large one is for a machine with an accelerator.
SHAPES = {
    "small": LlamaShape(VOCAB_SIZE, hidden_size=128, num_layers=NUM_LAYERS, num_heads=4, num_kv_heads=2,
                        intermediate_size=320, max_positions=CONTEXT, early_exit_layer=EXIT_LAYER),
    "large": LlamaShape(VOCAB_SIZE, hidden_size=320, num_layers=NUM_LAYERS, num_heads=10, num_kv_heads=5,
                        intermediate_size=720, max_positions=CONTEXT, early_exit_layer=EXIT_LAYER),
}
# Where the layers of the half-deep model come to lie in the target: spread, so that its upper half works too.
PLACES = tuple(range(0, NUM_LAYERS, 2))
DRAFT_PLACES = (0, 4)  # the target's layers that the draft begins as; they hold its copying
STAGES = ("trunk", "target", "draft", "control")
EXIT_LOSS = 0.3
PROMPTS_A_KIND = 8
ROWS = {"cpu": 8, "cuda": 64}  # of 192 tokens a batch
DOCUMENTS = {"cpu": 80000, "cuda": 400000}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Makes the demo pair.")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for demo-target and demo-draft")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for checkpoints")
    parser.add_argument("--start", type=pathlib.Path, help="folder of an earlier pair of the same shape to go on from, "
                        "instead of the half-deep model: its tokenizer, its target's lower half, its draft")
    parser.add_argument("--until", choices=STAGES, default="draft", help="the last stage; control is the target's "
                        "second branch, trained without the exit loss, into --work")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--shape", choices=("auto", *SHAPES), default="auto", help="auto: large with CUDA, else small")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", type=int, help="training texts; default 80,000, with CUDA 400,000")
    parser.add_argument("--half-minutes", type=float, default=14.0)
    parser.add_argument("--trunk-minutes", type=float, default=12.0)
    parser.add_argument("--target-minutes", type=float, default=12.0, help="of each branch")
    parser.add_argument("--draft-minutes", type=float, default=6.0)
    parser.add_argument("--branch-steps", type=int, default=10**9, help="an upper limit on the steps of each branch: "
                        "two branches that end by it have seen the same batches at the same rates")
    parser.add_argument("--steps", type=int, default=10**9, help="an upper limit on each model's steps; a run "
                        "that ends by it, not by the clock, can be repeated exactly on the same machine")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.device == "auto":
        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    if arguments.shape == "auto":
        arguments.shape = "large" if arguments.device == "cuda" else "small"
    arguments.documents = arguments.documents or DOCUMENTS[arguments.device]
    return arguments


class Maker:
    """One run: its arguments, its text, and the stages in order."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.shape = SHAPES[arguments.shape]
        self.tokenizer = self._tokenizer()
        self.rows = training_rows(self.tokenizer, arguments.seed, arguments.documents, CONTEXT)
        print(f"text: {self.rows.short.ids.numel()} tokens short, {self.rows.long.ids.numel()} long", flush=True)

    def _tokenizer(self) -> Tokenizer:
        if self.arguments.start:
            return Tokenizer.from_file(str(self.arguments.start / "demo-target" / "tokenizer.json"))
        path = self.arguments.work / "tokenizer.json"
        if not path.exists():
            train_tokenizer(VOCAB_SIZE, self.arguments.seed).save(str(path))
        return Tokenizer.from_file(str(path))

    def _phase(self, name: str, **fields) -> Phase:
        return Phase(name, rows=ROWS[self.arguments.device], **fields)

    def _budget(self, minutes: float, steps: int = 10**9) -> Budget:
        return Budget(minutes, min(steps, self.arguments.steps))

    def _stage(self, name: str, model: Llama, train) -> Llama:
        """Runs `train(model, checkpoint)` unless its checkpoint is there, from where a cut run left
        its weights if it was cut; returns the trained model."""
        checkpoint = self.arguments.work / f"{name}.pt"
        unfinished = unfinished_path(checkpoint)
        model = model.to(self.arguments.device)
        if not checkpoint.exists():
            if unfinished.exists():
                print(f"{name}: going on from {unfinished}, with its whole budget", flush=True)
                model.load_state_dict(torch.load(unfinished, map_location=self.arguments.device))
            train(model, checkpoint)
        model.load_state_dict(torch.load(checkpoint, map_location=self.arguments.device))
        return model

    def half(self) -> Llama:
        """A model of half the depth, which costs half as much: trained here, or an earlier target's lower half."""
        if self.arguments.start:
            earlier = read_model(self.arguments.start / "demo-target")
            places = tuple(range(len(PLACES)))
            return shrink(earlier, dataclasses.replace(self.shape, num_layers=len(PLACES), early_exit_layer=0), places)
        phase = self._phase("half", last_rate=0.5, repeats=True, long_rows=False, seed=5)
        model = Llama(dataclasses.replace(self.shape, num_layers=len(PLACES), early_exit_layer=0))
        return self._stage("half", model, lambda model, checkpoint: train_target(
            model, phase, self.rows, self._budget(self.arguments.half_minutes), checkpoint))

    def trunk(self, half: Llama) -> Llama:
        """The whole depth, without an exit loss: what both branches begin as."""
        phase = self._phase("trunk", first_rate=0.6, last_rate=0.5, seed=6)
        return self._stage("trunk", grow(half, self.shape, PLACES), lambda model, checkpoint: train_target(
            model, phase, self.rows, self._budget(self.arguments.trunk_minutes), checkpoint))

    def branch(self, name: str, trunk: Llama, exit_loss: float) -> Llama:
        phase = self._phase(name, first_rate=0.5, exit_loss=exit_loss, seed=8)
        model = grow(trunk, self.shape, tuple(range(NUM_LAYERS)))
        budget = (self.arguments.target_minutes, self.arguments.branch_steps)
        model = self._stage(name, model, lambda model, checkpoint: train_target(
            model, phase, self.rows, self._budget(*budget), checkpoint))
        return round_to_bfloat16(model).eval()

    def draft(self, target: Llama) -> Llama:
        """Learns the target's distribution on text and on the target's own outputs."""
        phase = self._phase("draft", first_rate=0.6, seed=7)
        if self.arguments.start:
            draft = read_model(self.arguments.start / "demo-draft").train()
        else:
            draft_shape = dataclasses.replace(self.shape, num_layers=DRAFT_LAYERS, early_exit_layer=0)
            draft = shrink(target, draft_shape, DRAFT_PLACES)

        def train(model, checkpoint):
            prompts = encoded_documents(self.tokenizer, self.arguments.seed + 3, 50 * phase.rows)
            own = target_outputs(target, prompts)
            print(f"the target wrote {own.ids.numel()} tokens", flush=True)
            train_draft(model, target, phase, self.rows, own, self._budget(self.arguments.draft_minutes), checkpoint)

        return round_to_bfloat16(self._stage("draft", draft, train)).eval()

    def write(self, model: Llama, folder: pathlib.Path) -> None:
        write_model(model, folder)
        write_tokenizer(self.tokenizer, folder, CONTEXT)


def main() -> None:
    arguments = parse_arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    maker = Maker(arguments)
    last = STAGES.index(arguments.until)
    trunk = maker.trunk(maker.half())
    if last >= STAGES.index("target"):
        target = maker.branch("target", trunk, EXIT_LOSS)
        maker.write(target, arguments.out / "demo-target")
        lines = [json.dumps(prompt) + "\n" for prompt in held_out_prompts(arguments.seed + 9, PROMPTS_A_KIND)]
        (arguments.out / "demo-target" / "held_out_prompts.jsonl").write_text("".join(lines))
    if last >= STAGES.index("draft"):
        maker.write(maker.draft(target), arguments.out / "demo-draft")
    if last >= STAGES.index("control"):
        control = maker.branch("control", trunk, 0.0)
        maker.write(control, arguments.work / "demo-target-without-exit-loss")


if __name__ == "__main__":
    main()
