"""Measures a pair of model folders as they are stored: loss, exact answers, acceptance.

    python3 tools/make_models/evaluate.py --target models/demo-target --draft models/demo-draft

The draft is judged on the target's own greedy stream. As long as a window is being accepted, the
draft has seen what the target has committed; so its proposal at a position is its best token after
the stream so far, and one teacher-forced pass gives all of them. The rounds are then simulated
token by token as the runtime plays them: the first token comes from the prefill, a window is capped
at what remains less one, and a round commits what was accepted and one token of the target's own.
"""

import argparse
import collections
import json
import pathlib

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from folder import read_model
from grammars.mixture import documents
from llama import Llama
from text import END_IDS, encode_documents, prompt_ids


def simulate_rounds(matches: list[bool], window: int, max_tokens: int) -> tuple[int, int, int]:
    """Plays the rounds of one request. Returns (rounds, drafted, accepted).

    `matches[i]` says whether the draft's best token equals the target's i-th output token, given all
    before it. Drafted tokens beyond an end token are drafted, and never accepted.
    """
    rounds = drafted = accepted = 0
    position = 1
    while position < len(matches):
        size = min(window, max_tokens - position - 1)
        kept = 0
        while kept < size and position + kept < len(matches) and matches[position + kept]:
            kept += 1
        rounds += 1
        drafted += size
        accepted += kept
        position += kept + 1
    return rounds, drafted, accepted


@torch.no_grad()
def draft_matches(draft: Llama, row: list[int], prompt_length: int) -> list[bool]:
    """Whether the draft's best token equals each output token of `row`."""
    best = draft(torch.tensor([row]))[0].argmax(dim=-1).tolist()
    return [best[i - 1] == row[i] for i in range(prompt_length, len(row))]


def measure_acceptance(target, draft, tokenizer, prompts, max_tokens, window, show) -> dict:
    """Acceptance by category over `prompts`; prints the texts if `show`."""
    sums = collections.defaultdict(lambda: [0, 0, 0, 0, 0, 0])
    inputs = [prompt_ids(tokenizer, prompt["category"], prompt["turns"]) for prompt in prompts]
    rows = target.generate_greedy(inputs, max_tokens, END_IDS)
    for prompt, ids, row in zip(prompts, inputs, rows):
        row = row[: len(ids) + max_tokens]
        rounds, drafted, accepted = simulate_rounds(draft_matches(draft, row, len(ids)), window, max_tokens)
        ended = row[-1] in END_IDS
        for name in (prompt["category"], "all"):
            for index, value in enumerate((1, rounds, drafted, accepted, len(row) - len(ids), int(ended))):
                sums[name][index] += value
        if show:
            text = tokenizer.decode(row[len(ids):], skip_special_tokens=False)
            print(f"--- {prompt['question_id']} {prompt['category']} {1 + accepted / max(rounds, 1):.2f}\n"
                  f"{prompt['turns'][0]}>>>{text}<<<")
    return {name: {"prompts": n, "tokens": tokens, "ended": ended, "rounds": rounds,
                   "acceptance_rate": round(accepted / max(drafted, 1), 3),
                   "mean_acceptance_length": round(1 + accepted / max(rounds, 1), 3)}
            for name, (n, rounds, drafted, accepted, tokens, ended) in sums.items()}


def completion_measures(target: Llama, draft: Llama, ids: list[int], counted: torch.Tensor) -> torch.Tensor:
    """Sums over the counted tokens of one text: tokens, losses of final layer, exit and draft,
    agreements of exit and draft with the final layer's best token, and whether all of it is right.

    A greedy answer equals the text exactly when the best token is right at every position of it.
    """
    row = torch.tensor([ids])
    wanted = row[0, 1:][counted]
    hidden, exit_state = target.hidden_states(row[:, :-1])
    logits = [x[0][counted] for x in (target.logits(hidden), target.logits(exit_state), draft(row[:, :-1]))]
    losses = [F.cross_entropy(x, wanted, reduction="sum").item() for x in logits]
    best, *others = [x.argmax(dim=-1) for x in logits]
    agreements = [(other == best).sum().item() for other in others]
    return torch.tensor([len(wanted), *losses, *agreements, bool((best == wanted).all())], dtype=torch.float64)


@torch.no_grad()
def measure_loss(target: Llama, draft: Llama, tokenizer: Tokenizer, held_out) -> dict:
    """Loss in nats a token over completions (a story counts whole), and agreement, by kind."""
    sums = collections.defaultdict(lambda: torch.zeros(8, dtype=torch.float64))
    for document, (ids, weights) in zip(held_out, encode_documents(tokenizer, held_out)):
        if len(ids) > target.shape.max_positions:
            continue
        measures = completion_measures(target, draft, ids, torch.tensor(weights[1:]) == 1.0)
        for name in (document.kind, "all"):
            sums[name] += torch.cat((measures, torch.ones(1, dtype=torch.float64)))
    names = ("loss", "exit_loss", "draft_loss", "exit_agreement", "draft_agreement")
    report = {}
    for name, row in sums.items():
        values = row.tolist()
        report[name] = {"texts": int(values[7]), "tokens": int(values[0]),
                        **{key: round(value / values[0], 4) for key, value in zip(names, values[1:6])},
                        "exact": round(values[6] / values[7], 3)}
    return report


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures a pair of model folders.")
    parser.add_argument("--target", type=pathlib.Path, required=True)
    parser.add_argument("--draft", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", type=pathlib.Path, help="default: the target's held_out_prompts.jsonl")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--held-out-documents", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1001, help="of the held-out texts for the losses")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print every continuation")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    target, draft = read_model(arguments.target), read_model(arguments.draft)
    tokenizer = Tokenizer.from_file(str(arguments.target / "tokenizer.json"))
    path = arguments.prompts or arguments.target / "held_out_prompts.jsonl"
    prompts = [json.loads(line) for line in path.read_text().splitlines()]
    acceptance = measure_acceptance(target, draft, tokenizer, prompts, arguments.max_tokens, arguments.window,
                                    arguments.show)
    held_out = list(documents(arguments.seed, arguments.held_out_documents, held_out=True))
    losses = measure_loss(target, draft, tokenizer, held_out)
    for title, report in (("acceptance", acceptance), ("loss", losses)):
        for name in sorted(report):
            print(json.dumps({"measure": title, "kind": name, **report[name]}))


if __name__ == "__main__":
    main()
