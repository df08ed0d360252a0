"""Held-out prompts in Spec-Bench's form: the same number of each kind, of chats only single questions."""

from grammars.mixture import documents


def held_out_prompts(seed: int, count: int) -> list[dict]:
    """`count` prompts of each kind that no training text contains; the category names the kind."""
    chosen: dict[str, list[str]] = {}
    for document in documents(seed, 100 * count, held_out=True):
        if document.is_chat and len(document.turns) != 2:
            continue
        turns = chosen.setdefault(document.kind, [])
        if len(turns) < count and document.turns[0] not in turns:
            turns.append(document.turns[0])
    flat = [(kind, turn) for kind in sorted(chosen) for turn in chosen[kind]]
    return [{"question_id": index + 1, "category": kind, "turns": [turn]}
            for index, (kind, turn) in enumerate(flat)]
