"""Questions over a given passage: what the answer says stands in the passage and nowhere else."""

import random

from grammars.document import Document, pick
from grammars.words import CITIES, COLOURS, FOODS, JOBS, NAMES, PLACES, TREASURES


def _owners(rng):
    """Who has the red coin?"""
    count = rng.randint(3, 5)
    things = rng.sample([(colour, thing) for colour in COLOURS for thing in TREASURES], count)
    names = rng.sample(NAMES, count)
    facts = [f"{name} has the {colour} {thing}." for name, (colour, thing) in zip(names, things)]
    index = rng.randrange(count)
    colour, thing = things[index]
    if rng.random() < 0.4:
        return facts, f"What does {names[index]} have?", facts[index]
    return facts, f"Who has the {colour} {thing}?", facts[index]


def _homes(rng):
    """Where does Tom live, and what does he do there?"""
    count = rng.randint(2, 4)
    names, cities, jobs = (rng.sample(words, count) for words in (NAMES, CITIES, JOBS))
    facts = [f"{name} lives in {city} and is a {job}." for name, city, job in zip(names, cities, jobs)]
    index = rng.randrange(count)
    name, city, job = names[index], cities[index], jobs[index]
    question, answer = pick(rng, (
        (f"Where does {name} live?", f"{name} lives in {city}."),
        (f"What is the job of {name}?", f"{name} is a {job}."),
        (f"Who lives in {city}?", f"{name} lives in {city}."),
        (f"Who is the {job}?", f"The {job} is {name}.")))
    return facts, question, answer


def _prices(rng):
    """How much is the bread?"""
    count = rng.randint(3, 5)
    foods, prices = rng.sample(FOODS, count), rng.sample(range(10, 1000), count)
    facts = [f"The price of the {food} is {price}." for food, price in zip(foods, prices)]
    index = rng.randrange(count)
    if rng.random() < 0.3:
        return facts, f"What has the price {prices[index]}?", f"The {foods[index]}."
    return facts, f"What is the price of the {foods[index]}?", facts[index]


def _two_steps(rng):
    """Where is the map? It is with Tom, and Tom is in the garden."""
    names, things = rng.sample(NAMES, 3), rng.sample(TREASURES, 3)
    places = rng.sample(PLACES, 3)
    holds = [f"{name} has the {thing}." for name, thing in zip(names, things)]
    stands = [f"{name} is in the {place}." for name, place in zip(names, places)]
    index = rng.randrange(3)
    name, thing, place = names[index], things[index], places[index]
    return [*holds, *stands], f"Where is the {thing}?", (
        f"{name} has the {thing}. {name} is in the {place}. So the {thing} is in the {place}.")


def lookup_task(rng: random.Random) -> tuple[str, str, str]:
    """Returns (key, request, answer)."""
    facts, question, answer = pick(rng, (_homes, _owners, _two_steps, _prices))(rng)
    rng.shuffle(facts)
    request = f"{' '.join(facts)}\nQuestion: {question}"
    return request, request, answer


def lookup(rng: random.Random) -> Document:
    key, request, answer = lookup_task(rng)
    return Document("lookup", key, (request, "\nAnswer: " + answer))
