"""Makes models/demo-target and models/demo-draft from nothing but its own grammars.

    nice -n 19 python3 tools/make_models/make_models.py --out models --work DIR

Stages write into --work and are skipped when their file is there already, so that a cut run can be
taken up again: tokenizer, target, the target's outputs, draft, folders.
"""

import argparse
import dataclasses
import json
import pathlib

import torch
from tokenizers import Tokenizer

from batches import encoded_documents, training_rows
from folder import write_model
from grammars.mixture import documents
from llama import Llama, LlamaShape, grow, round_to_bfloat16, shrink
from text import train_tokenizer, write_tokenizer
from training import Budget, Phase, target_outputs, train_draft, train_target

VOCAB_SIZE = 1024
CONTEXT = 1024
TARGET = LlamaShape(VOCAB_SIZE, hidden_size=128, num_layers=12, num_heads=4, num_kv_heads=2,
                    intermediate_size=320, max_positions=CONTEXT, early_exit_layer=6)
GROWN_PLACES = (0, 2, 4, 5)  # where the shallow model's layers come to lie in the target
DRAFT = dataclasses.replace(TARGET, num_layers=2, early_exit_layer=0)
DRAFT_PLACES = GROWN_PLACES[:2]  # the target's layers that the draft begins as; they hold its copying
PROMPTS_A_KIND = {"story": 8, "arithmetic": 8, "json": 6, "program": 6, "chat_story": 3, "chat_arithmetic": 3,
                  "chat_json": 2, "chat_program": 2, "chat_fact": 2}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Makes the demo pair.")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for demo-target and demo-draft")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", type=int, default=80000, help="training texts")
    parser.add_argument("--shallow-minutes", type=float, default=14.0)
    parser.add_argument("--target-minutes", type=float, default=11.0)
    parser.add_argument("--draft-minutes", type=float, default=6.0)
    parser.add_argument("--steps", type=int, default=10**9, help="an upper limit on each model's steps; a run "
                        "that ends by it, not by the clock, can be repeated exactly on the same machine")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def get_tokenizer(arguments: argparse.Namespace) -> Tokenizer:
    path = arguments.work / "tokenizer.json"
    if not path.exists():
        train_tokenizer(VOCAB_SIZE, arguments.seed).save(str(path))
    return Tokenizer.from_file(str(path))


def make_target(arguments, rows) -> Llama:
    """Trains a shallow model, which costs a third, and grows it to the target's depth."""
    small = Llama(dataclasses.replace(TARGET, num_layers=len(GROWN_PLACES), early_exit_layer=0))
    checkpoint = arguments.work / "shallow.pt"
    if not checkpoint.exists():
        phase = Phase("shallow", last_rate=0.5, repeats=True, long_rows=False, seed=5)
        train_target(small, phase, rows, Budget(arguments.shallow_minutes, arguments.steps), checkpoint)
    small.load_state_dict(torch.load(checkpoint))
    target = grow(small, TARGET, GROWN_PLACES)
    checkpoint = arguments.work / "target.pt"
    if not checkpoint.exists():
        phase = Phase("target", first_rate=0.6, seed=6)
        train_target(target, phase, rows, Budget(arguments.target_minutes, arguments.steps), checkpoint)
    target.load_state_dict(torch.load(checkpoint))
    return round_to_bfloat16(target).eval()


def make_draft(arguments, rows, target: Llama, tokenizer: Tokenizer) -> Llama:
    checkpoint = arguments.work / "draft.pt"
    draft = shrink(target, DRAFT, DRAFT_PLACES)
    if not checkpoint.exists():
        own = target_outputs(target, encoded_documents(tokenizer, arguments.seed + 3, 800))
        print(f"the target wrote {own.ids.numel()} tokens", flush=True)
        budget = Budget(arguments.draft_minutes, arguments.steps)
        train_draft(draft, target, Phase("draft", first_rate=0.6, seed=7), rows, own, budget, checkpoint)
    draft.load_state_dict(torch.load(checkpoint))
    return round_to_bfloat16(draft).eval()


def write_prompts(path: pathlib.Path, seed: int) -> None:
    """Held-out prompts in Spec-Bench's form; of a chat only conversations of one task are taken."""
    wanted = dict(PROMPTS_A_KIND)
    chosen: dict[str, list[str]] = {kind: [] for kind in wanted}
    for document in documents(seed + 9, 4000, held_out=True):
        kind = document.kind
        if document.is_chat and len(document.turns) != 2:
            continue
        if wanted.get(kind, 0) > 0 and document.turns[0] not in chosen[kind]:
            wanted[kind] -= 1
            chosen[kind].append(document.turns[0])
    flat = [(kind, turn) for kind, turns in chosen.items() for turn in turns]
    lines = [json.dumps({"question_id": index + 1, "category": kind, "turns": [turn]})
             for index, (kind, turn) in enumerate(flat)]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    arguments = parse_arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tokenizer = get_tokenizer(arguments)
    rows = training_rows(tokenizer, arguments.seed, arguments.documents, CONTEXT)
    print(f"text: {rows.short.ids.numel()} tokens short, {rows.long.ids.numel()} long", flush=True)
    target = make_target(arguments, rows)
    draft = make_draft(arguments, rows, target, tokenizer)
    for model, name in ((target, "demo-target"), (draft, "demo-draft")):
        write_model(model, arguments.out / name)
        write_tokenizer(tokenizer, arguments.out / name, CONTEXT)
    write_prompts(arguments.out / "demo-target" / "held_out_prompts.jsonl", arguments.seed)


if __name__ == "__main__":
    main()
