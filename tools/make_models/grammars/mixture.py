"""The mixture of all grammars: what the models are trained on."""

import random

from grammars.arithmetic import arithmetic
from grammars.chats import chat
from grammars.document import is_held_out
from grammars.lookups import lookup
from grammars.programs import program
from grammars.records import record
from grammars.stories import story
from grammars.translations import translation

MIXTURE = ((story, 0.09), (arithmetic, 0.22), (record, 0.14), (program, 0.15), (lookup, 0.12), (translation, 0.13),
           (chat, 0.15))


def documents(seed: int, count: int, held_out: bool = False, long: bool = False):
    """Yields `count` documents of one split; the same ones for the same arguments.

    `long` asks for conversations of many turns, for training at the full context.
    """
    rng = random.Random(f"{seed}/{held_out}/{long}")
    grammars, weights = zip(*MIXTURE)
    for _ in range(count):
        grammar = rng.choices(grammars, weights)[0]
        while True:
            of_chat = long or grammar is chat
            document = chat(rng, held_out, long) if of_chat else grammar(rng)
            if is_held_out(document.key) == held_out:
                break
        yield document
