"""The training loops: the target on text, the draft on text and on the target's own outputs."""

import dataclasses
import pathlib
import time

import torch
from torch.nn import functional as F

from batches import Rows, TrainingRows, pack
from llama import Llama
from optimizer import ModelOptimizer
from text import END_IDS

EXIT_LOSS = 0.3
SHORT_ROWS, LONG_ROWS = 16, 3
LONG_EVERY, LONG_FROM = 6, 0.3


@dataclasses.dataclass
class Budget:
    """A run ends at whichever comes first; the learning rate follows the larger share."""

    minutes: float
    steps: int

    def __post_init__(self):
        self.begin = time.monotonic()

    def progress(self, step: int) -> float:
        return max(step / self.steps, (time.monotonic() - self.begin) / (60 * self.minutes))


def rate_fraction(progress: float, step: int) -> float:
    """A short warm-up by steps, a plateau, then a straight line to nearly nothing."""
    return min(1.0, (step + 1) / 40) * min(1.0, max(0.02, (1 - progress) / 0.7))


def weighted_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats. Shapes: logits [B, T, V], targets and weights [B, T]."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def target_loss(model: Llama, ids: torch.Tensor, weights: torch.Tensor):
    """Returns the sum to minimise and the final layer's own loss."""
    hidden, exit_state = model.hidden_states(ids[:, :-1])
    final = weighted_loss(model.logits(hidden), ids[:, 1:], weights[:, 1:])
    early = weighted_loss(model.logits(exit_state), ids[:, 1:], weights[:, 1:])
    return final + EXIT_LOSS * early, final


def draft_loss(draft: Llama, target: Llama, ids: torch.Tensor, weights: torch.Tensor):
    """Distillation: mostly the target's distribution, a little of the text itself."""
    with torch.no_grad():
        wanted = F.log_softmax(target(ids[:, :-1]), dim=-1)
    logits = draft(ids[:, :-1])
    text = weighted_loss(logits, ids[:, 1:], weights[:, 1:])
    gaps = F.kl_div(F.log_softmax(logits, dim=-1), wanted, log_target=True, reduction="none").sum(dim=-1)
    distilled = (gaps * weights[:, 1:]).sum() / weights[:, 1:].sum()
    return distilled + 0.2 * text, text


def _run(name: str, model: Llama, loss_of, next_batch, budget: Budget, checkpoint: pathlib.Path) -> None:
    """Steps until the budget is spent; writes `checkpoint` every two minutes and at the end."""
    optimizer = ModelOptimizer(model)
    step, tokens, saved, average = 0, 0, time.monotonic(), None
    while (progress := budget.progress(step)) < 1.0:
        ids, weights = next_batch(step, progress)
        loss, shown = loss_of(ids, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(rate_fraction(progress, step))
        step += 1
        tokens += ids.numel()
        average = shown.item() if average is None else 0.95 * average + 0.05 * shown.item()
        if step % 25 == 0:
            rate = tokens / (time.monotonic() - budget.begin)
            print(f"{name} step {step} progress {progress:.3f} loss {average:.4f} {rate:.0f} tokens/s", flush=True)
        if time.monotonic() - saved > 120:
            torch.save(model.state_dict(), checkpoint)
            saved = time.monotonic()
    torch.save(model.state_dict(), checkpoint)
    print(f"{name} done: {step} steps, {tokens} tokens, {time.monotonic() - budget.begin:.0f} s", flush=True)


def _mixed_batches(rows: TrainingRows, short: Rows, other: Rows | None = None):
    """Short batches, every LONG_EVERY-th one at the full context; `other` rows take every second."""

    def next_batch(step, progress):
        if progress > LONG_FROM and step % LONG_EVERY == 0:
            return rows.long.batch(step // LONG_EVERY, LONG_ROWS)
        if other is not None and step % 2:
            return other.batch(step // 2, SHORT_ROWS)
        return short.batch(step, SHORT_ROWS)

    return next_batch


def train_target(model: Llama, rows: TrainingRows, budget: Budget, checkpoint: pathlib.Path) -> None:
    _run("target", model, lambda ids, weights: target_loss(model, ids, weights),
         _mixed_batches(rows, rows.short), budget, checkpoint)


def target_outputs(target: Llama, encoded, length: int = 192, batch: int = 96) -> Rows:
    """The target's own greedy continuations of prompts, packed into rows.

    `encoded` holds (ids, weights) of documents; a prompt is what comes before the weight reaches 1,
    or the opening where nothing does.
    """
    prompts = []
    for ids, weights in encoded:
        cut = weights.index(1.0)
        prompts.append(ids[: cut if cut > 8 else 24])
    prompts.sort(key=len)
    outputs = []
    for begin in range(0, len(prompts), batch):
        some = prompts[begin : begin + batch]
        for prompt, row in zip(some, target.generate_greedy(some, 140, END_IDS, ended_share=0.9)):
            own = len(row) - len(prompt)
            outputs.append((row, [0.0] * len(prompt) + [1.0] * own))
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(outputs), generator=generator).tolist()
    return pack([outputs[i] for i in order], length)


def train_draft(draft: Llama, target: Llama, rows: TrainingRows, own: Rows, budget: Budget,
                checkpoint: pathlib.Path) -> None:
    """`own` holds the target's outputs; every second short batch comes from them."""
    _run("draft", draft, lambda ids, weights: draft_loss(draft, target, ids, weights),
         _mixed_batches(rows, rows.short, own), budget, checkpoint)
