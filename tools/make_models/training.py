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

COPYING_LOSS = 0.3
LONG_EVERY = 8


@dataclasses.dataclass
class Budget:
    """A run ends at whichever comes first; the learning rate follows the larger share."""

    minutes: float
    steps: int

    def __post_init__(self):
        self.begin = time.monotonic()

    def progress(self, step: int) -> float:
        return max(step / self.steps, (time.monotonic() - self.begin) / (60 * self.minutes))


@dataclasses.dataclass(frozen=True)
class Phase:
    """How one stage of training goes: learning rate from `first_rate` to `last_rate`, and the data."""

    name: str
    first_rate: float = 1.0
    last_rate: float = 0.02
    repeats: bool = False
    long_rows: bool = True
    exit_loss: float = 0.0
    seed: int = 0  # of the order of the short rows
    rows: int = 8  # of 192 tokens a batch; a quarter as many where they have the full context

    def rate(self, progress: float, step: int) -> float:
        """A short warm-up by steps, then a straight line by progress."""
        rate = self.first_rate + (self.last_rate - self.first_rate) * progress
        return min(1.0, (step + 1) / 40) * rate


def weighted_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats. Shapes: logits [B, T, V], targets and weights [B, T]."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def copying_loss(model: Llama, ids: torch.Tensor) -> torch.Tensor:
    """Asks one head of layer 0 to look at the previous token, and one head each of layers 1 and 2 to
    look behind earlier occurrences of the current token: the two steps of copying.

    Gradients alone find this pair of steps late, for neither helps without the other.
    """
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
    previous = torch.eye(length, dtype=torch.bool, device=ids.device).roll(1, dims=0) & causal
    same = ids.unsqueeze(2) == ids.unsqueeze(1)
    behind = F.pad(same, (1, 0))[:, :, :length] & causal
    x, loss = model.model.embed_tokens(ids), 0.0
    cos, sin = model.cos[:length], model.sin[:length]
    for layer, wanted in zip(model.model.layers, (previous.expand_as(behind), behind, behind)):
        q, k, _ = layer.self_attn.project(layer.input_layernorm(x), cos, sin)
        scores = q[:, 0] @ k[:, 0].transpose(1, 2) * q.shape[-1] ** -0.5
        logs = scores.masked_fill(~causal, -1e9).log_softmax(dim=-1)
        found = logs.masked_fill(~wanted, -1e9).logsumexp(dim=-1)
        loss = loss - found[wanted.any(dim=-1)].mean()
        x = layer(x, cos, sin, None)
    return loss


def target_loss(model: Llama, ids: torch.Tensor, weights: torch.Tensor, exit_loss: float, num_repeats: int):
    """Returns the sum to minimise and the final layer's own loss. The last `num_repeats` rows repeat."""
    hidden, exit_state = model.hidden_states(ids[:, :-1])
    final = weighted_loss(model.logits(hidden), ids[:, 1:], weights[:, 1:])
    total = final
    if exit_loss:
        total = total + exit_loss * weighted_loss(model.logits(exit_state), ids[:, 1:], weights[:, 1:])
    if num_repeats:
        total = total + COPYING_LOSS * copying_loss(model, ids[-num_repeats:, :-1])
    return total, final


def draft_loss(draft: Llama, target: Llama, ids: torch.Tensor, weights: torch.Tensor):
    """Distillation: mostly the target's distribution, a little of the text itself."""
    with torch.no_grad():
        wanted = F.log_softmax(target(ids[:, :-1]), dim=-1)
    logits = draft(ids[:, :-1])
    text = weighted_loss(logits, ids[:, 1:], weights[:, 1:])
    gaps = F.kl_div(F.log_softmax(logits, dim=-1), wanted, log_target=True, reduction="none").sum(dim=-1)
    distilled = (gaps * weights[:, 1:]).sum() / weights[:, 1:].sum()
    return distilled + 0.2 * text, text


def unfinished_path(checkpoint: pathlib.Path) -> pathlib.Path:
    """Where the weights of a stage lie while it runs, and after it was cut."""
    return checkpoint.with_suffix(".unfinished.pt")


def _run(phase: Phase, model: Llama, loss_of, next_batch, budget: Budget, checkpoint: pathlib.Path) -> None:
    """Steps until the budget is spent, then writes `checkpoint`; every minute one that says it is unfinished."""
    optimizer = ModelOptimizer(model)
    device = model.cos.device
    unfinished = unfinished_path(checkpoint)
    step, tokens, saved, average = 0, 0, time.monotonic(), None
    while (progress := budget.progress(step)) < 1.0:
        ids, weights = next_batch(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss, shown = loss_of(ids.to(device), weights.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(phase.rate(progress, step))
        step += 1
        tokens += ids.numel()
        average = shown.item() if average is None else 0.95 * average + 0.05 * shown.item()
        if step % 50 == 0:
            rate = tokens / (time.monotonic() - budget.begin)
            print(f"{phase.name} step {step} progress {progress:.3f} loss {average:.4f} "
                  f"{rate:.0f} tokens/s", flush=True)
        if time.monotonic() - saved > 60:
            torch.save(model.state_dict(), unfinished)
            saved = time.monotonic()
    torch.save(model.state_dict(), unfinished)
    unfinished.rename(checkpoint)
    print(f"{phase.name} done: {step} steps, {tokens} tokens, {time.monotonic() - budget.begin:.0f} s", flush=True)


def _mixed_batches(phase: Phase, rows: TrainingRows, own: Rows | None = None):
    """Short batches, with repeats or not; every LONG_EVERY-th one at the full context; every second
    of the others from `own`, if there is one."""

    short = rows.short.shuffled(phase.seed)

    def next_batch(step):
        if phase.long_rows and step % LONG_EVERY == 0:
            return rows.long.batch(step // LONG_EVERY, phase.rows // 4)
        if own is not None and step % 2:
            return own.batch(step // 2, phase.rows)
        if not phase.repeats:
            return short.batch(step, phase.rows)
        text = short.batch(step, phase.rows - phase.rows // 4)
        again = rows.repeats.batch(step, phase.rows // 4)
        return torch.cat((text[0], again[0])), torch.cat((text[1], again[1]))

    return next_batch


def train_target(model: Llama, phase: Phase, rows: TrainingRows, budget: Budget,
                 checkpoint: pathlib.Path) -> None:
    """Trains on text; through the exit too, where the phase says so."""
    num_repeats = phase.rows // 4 if phase.repeats else 0
    _run(phase, model, lambda ids, weights: target_loss(model, ids, weights, phase.exit_loss, num_repeats),
         _mixed_batches(phase, rows), budget, checkpoint)


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


def train_draft(draft: Llama, target: Llama, phase: Phase, rows: TrainingRows, own: Rows, budget: Budget,
                checkpoint: pathlib.Path) -> None:
    """Distils the target; `own` holds the target's outputs."""
    _run(phase, draft, lambda ids, weights: draft_loss(draft, target, ids, weights),
         _mixed_batches(phase, rows, own), budget, checkpoint)
