"""What every grammar yields: a prompt, its completion, and the key that decides its split."""

import dataclasses
import hashlib
import random

HELD_OUT_SHARE = 25  # one key in so many is kept away from training


@dataclasses.dataclass(frozen=True)
class Document:
    """One text. `turns` alternates user and assistant for chats and is (prompt, completion) else."""

    kind: str
    key: str
    turns: tuple[str, ...]
    is_chat: bool = False
    system: str = ""


def is_held_out(key: str) -> bool:
    """A fixed share of all keys, whatever the seed: no training text contains a held-out task."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % HELD_OUT_SHARE == 0


def pick(rng: random.Random, options):
    """Picks one option, earlier ones more often: greedy continuations then have a clear favourite."""
    weights = [1.0 / (1.0 + 0.6 * rank) for rank in range(len(options))]
    return rng.choices(options, weights)[0]
