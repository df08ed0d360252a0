"""JSON objects written from a plain list of fields."""

import json
import random

from grammars.document import Document
from grammars.words import CITIES, COLOURS, FOODS, HOBBIES, JOBS, NAMES, WEATHER, ANIMALS


def _person(rng):
    return {"name": rng.choice(NAMES), "age": rng.randint(5, 80), "city": rng.choice(CITIES),
            "job": rng.choice(JOBS), "likes": rng.sample(HOBBIES, rng.randint(1, 3))}


def _pet(rng):
    return {"name": rng.choice(NAMES), "animal": rng.choice(ANIMALS), "colour": rng.choice(COLOURS),
            "age": rng.randint(1, 15), "friendly": rng.random() < 0.7}


def _weather(rng):
    return {"city": rng.choice(CITIES), "sky": rng.choice(WEATHER),
            "temperature": rng.randint(1, 35), "wind": rng.randint(0, 60), "rain": rng.random() < 0.4}


def _order(rng):
    return {"order": rng.randint(100, 999), "customer": rng.choice(NAMES),
            "items": rng.sample(FOODS, rng.randint(2, 4)), "total": rng.randint(10, 99),
            "paid": rng.random() < 0.6}


SCHEMAS = (("person", _person), ("pet", _pet), ("weather", _weather), ("order", _order))


def _plain(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _dump(record: dict) -> str:
    """JSON with one field a line and lists kept on theirs."""
    fields = [f"  {json.dumps(field)}: {json.dumps(value)}" for field, value in record.items()]
    return "{\n" + ",\n".join(fields) + "\n}"


def record_task(rng: random.Random) -> tuple[str, str, str]:
    """Returns (key, request, JSON)."""
    schema, make = rng.choice(SCHEMAS)
    record = make(rng)
    if len(record) > 3 and rng.random() < 0.5:
        record.pop(rng.choice(list(record)[1:]))
    fields = "; ".join(f"{field}: {_plain(value)}" for field, value in record.items())
    request = f"Write this {schema} as JSON. {fields}"
    return request, request, _dump(record)


def record(rng: random.Random) -> Document:
    key, request, answer = record_task(rng)
    return Document("json", key, (request, "\n" + answer))
