"""Measures a pair of model folders as they are stored: loss, exact answers, acceptance, exit recall.

    python3 tools/make_models/evaluate.py --target models/demo-target --draft models/demo-draft

The draft is judged on the target's own greedy stream. As long as a window is being accepted, the
draft has seen what the target has committed; so its proposal at a position is its best token after
the stream so far, and one teacher-forced pass gives all of them; the rounds are then simulated. The
same stream says how often the exit's best k tokens hold the target's next one (exit recall), at all
positions and at those where a draft was rejected.
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
from prompts import held_out_prompts
from rounds import Rounds, simulate_rounds
from text import END_IDS, encode_documents, prompt_ids

RECALL_AT = (1, 2, 4, 8)


class Tally:
    """Sums over the streams of one kind."""

    def __init__(self):
        self.counts = collections.Counter()
        self.ranks, self.correction_ranks = [], []

    def add(self, played: Rounds, ranks: list[int], ended: bool) -> None:
        self.counts.update(prompts=1, tokens=len(ranks), ended=ended, rounds=played.rounds,
                           drafted=played.drafted, accepted=played.accepted)
        self.ranks += ranks
        self.correction_ranks += [ranks[position] for position in played.corrections]

    def report(self) -> dict:
        counts = self.counts
        return {**{name: counts[name] for name in ("prompts", "tokens", "ended", "rounds")},
                "acceptance_rate": round(counts["accepted"] / max(counts["drafted"], 1), 3),
                "mean_acceptance_length": round(1 + counts["accepted"] / max(counts["rounds"], 1), 3),
                "exit_recall": _recall(self.ranks), "corrections": len(self.correction_ranks),
                "exit_recall_of_corrections": _recall(self.correction_ranks)}


def _recall(ranks: list[int]) -> list[float]:
    """The share of tokens that are among the exit's best k, for each k of RECALL_AT; empty without tokens."""
    return [round(sum(rank < k for rank in ranks) / len(ranks), 3) for k in RECALL_AT if ranks]


@torch.no_grad()
def judge_stream(target: Llama, draft: Llama, row: list[int], prompt_length: int):
    """Of each output token of `row`: whether the draft's best token equals it, and its rank at the exit."""
    ids, wanted = torch.tensor([row[:-1]]), torch.tensor(row[prompt_length:])
    matches = draft(ids)[0, prompt_length - 1 :].argmax(dim=-1) == wanted
    at_exit = target.logits(target.hidden_states(ids)[1])[0, prompt_length - 1 :]
    ranks = (at_exit > at_exit.gather(1, wanted.unsqueeze(1))).sum(dim=-1)
    return matches.tolist(), ranks.tolist()


def measure_acceptance(target, draft, tokenizer, prompts, max_tokens, window, show) -> dict:
    """Acceptance and exit recall by category over `prompts`; prints the texts if `show`."""
    tallies = collections.defaultdict(Tally)
    inputs = [prompt_ids(tokenizer, prompt["category"], prompt["turns"]) for prompt in prompts]
    rows = target.generate_greedy(inputs, max_tokens, END_IDS)
    for prompt, ids, row in zip(prompts, inputs, rows):
        row = row[: len(ids) + max_tokens]
        matches, ranks = judge_stream(target, draft, row, len(ids))
        played = simulate_rounds(matches, window, max_tokens)
        for name in (prompt["category"], "all"):
            tallies[name].add(played, ranks, row[-1] in END_IDS)
        if show:
            text = tokenizer.decode(row[len(ids):], skip_special_tokens=False)
            print(f"--- {prompt['question_id']} {prompt['category']} "
                  f"{1 + played.accepted / max(played.rounds, 1):.2f}\n{prompt['turns'][0]}>>>{text}<<<")
    return {name: tally.report() for name, tally in tallies.items()}


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
    parser.add_argument("--prompts-a-kind", type=int, help="so many held-out prompts of each kind instead, made anew")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--held-out-documents", type=int, default=400, help="for the losses")
    parser.add_argument("--seed", type=int, default=1001, help="of the held-out texts and prompts that are made anew")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print every continuation")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    target, draft = read_model(arguments.target), read_model(arguments.draft)
    tokenizer = Tokenizer.from_file(str(arguments.target / "tokenizer.json"))
    if arguments.prompts_a_kind:
        prompts = held_out_prompts(arguments.seed + 8, arguments.prompts_a_kind)
    else:
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
