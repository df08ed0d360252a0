"""Rounds of speculation played on a recorded stream, token by token as the runtime plays them.

The first token comes from the prefill, a window is capped at what remains less one, and a round
commits what was accepted and one token of the target's own.
"""

import dataclasses


@dataclasses.dataclass
class Rounds:
    """What the rounds of one request came to. `corrections` are the positions among its output tokens
    at which the target put its own token in place of a rejected one."""

    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    corrections: list[int] = dataclasses.field(default_factory=list)


def simulate_rounds(matches: list[bool], window: int, max_tokens: int) -> Rounds:
    """Plays the rounds of one request.

    `matches[i]` says whether the draft's best token equals the target's i-th output token, given all
    before it. Drafted tokens beyond an end token are drafted, and never accepted.
    """
    played = Rounds()
    position = 1
    while position < len(matches):
        size = min(window, max_tokens - position - 1)
        kept = 0
        while kept < size and position + kept < len(matches) and matches[position + kept]:
            kept += 1
        played.rounds += 1
        played.drafted += size
        played.accepted += kept
        position += kept + 1
        if kept < size and position <= len(matches):
            played.corrections.append(position - 1)
    return played
