"""Sentences and their translation into Vesh, a language made up for this.

Its rules: the verb stands last; what describes a noun stands after it; a plural noun is said twice; `ta` after the
verb makes it past, `no` before it denies; a place comes first and ends with `en`. There are no articles.
"""

import random

from grammars.document import Document, pick

NOUNS = {"fox": "lom", "bear": "urso", "rabbit": "tapi", "cat": "mir", "dog": "hav", "mouse": "pin", "owl": "uma",
         "duck": "nek", "frog": "sol", "hedgehog": "ried", "squirrel": "keta", "otter": "walo"}
OBJECTS = {"kite": "fal", "boat": "nave", "drum": "bom", "map": "karo", "ball": "rund", "cake": "dola", "hat": "kap",
           "flower": "lore", "box": "kas", "lamp": "lum"}
DESCRIPTIONS = {"little": "pik", "kind": "gen", "brave": "dar", "clever": "inte", "shy": "sil", "happy": "gai"}
COLOURS = {"red": "rud", "blue": "asu", "green": "ver", "yellow": "jel", "white": "wit", "black": "nor"}
NUMBERS = {"two": "du", "three": "tri", "four": "for", "five": "fin"}
# English present and past, and the verb in Vesh.
VERBS = (("sees", "saw", "see", "vid"), ("finds", "found", "find", "tro"), ("takes", "took", "take", "pren"),
         ("wants", "wanted", "want", "vol"), ("paints", "painted", "paint", "pen"), ("loves", "loved", "love", "ama"))
PLACES = {"in the forest": "bos", "by the river": "riva", "on the hill": "mon", "in the garden": "gar",
          "near the lake": "lago", "in the village": "dor"}


def _subject(rng):
    noun, told = rng.choice(tuple(NOUNS.items()))
    if rng.random() < 0.6:
        description, word = rng.choice(tuple(DESCRIPTIONS.items()))
        return f"the {description} {noun}", f"{told} {word}"
    return f"the {noun}", told


def _object(rng):
    noun, told = rng.choice(tuple(OBJECTS.items()))
    colour, word = rng.choice(tuple(COLOURS.items()))
    shape = rng.random()
    if shape < 0.35:
        number, count = rng.choice(tuple(NUMBERS.items()))
        return f"{number} {colour} {noun if noun != 'box' else 'boxe'}s", f"{told} {told} {count} {word}"
    return (f"a {colour} {noun}", f"{told} {word}") if shape < 0.75 else (f"the {noun}", told)


def _clause(rng) -> tuple[str, str]:
    (subject, who), (thing, what) = _subject(rng), _object(rng)
    present, past, plain, verb = rng.choice(VERBS)
    way = rng.random()
    if way < 0.45:
        said, told = past, f"{verb} ta"
    elif way < 0.8:
        said, told = present, verb
    elif way < 0.9:
        said, told = f"did not {plain}", f"no {verb} ta"
    else:
        said, told = f"does not {plain}", f"no {verb}"
    english, vesh = f"{subject} {said} {thing}", f"{who} {what} {told}"
    if rng.random() < 0.4:
        place, word = rng.choice(tuple(PLACES.items()))
        english, vesh = f"{english} {place}", f"{word} en {vesh}"
    return english, vesh


def translation_task(rng: random.Random) -> tuple[str, str, str]:
    """Returns (key, request, translation)."""
    english, vesh = zip(*(_clause(rng) for _ in range(pick(rng, (1, 2)))))
    joined = " and ".join(english)
    request = f"Translate into Vesh: {joined[0].upper()}{joined[1:]}."
    answer = " e ".join(vesh)
    return request, request, f"{answer[0].upper()}{answer[1:]}."


def translation(rng: random.Random) -> Document:
    key, request, answer = translation_task(rng)
    return Document("translation", key, (request, "\n" + answer))
