"""JSON objects written from a plain list of fields, or from a sentence by a schema."""

import json
import random

from grammars.document import Document, pick
from grammars.words import ANIMALS, CITIES, COLOURS, FOODS, HOBBIES, JOBS, NAMES, WEATHER, pronouns


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


def _list_text(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _person_text(record: dict) -> str:
    he = pronouns(record["name"])["He"]
    return (f"{record['name']} is a {record['job']} from {record['city']}. {he} is {record['age']} years old "
            f"and likes {_list_text(record['likes'])}.")


def _pet_text(record: dict) -> str:
    friendly = "is friendly" if record["friendly"] else "is not friendly"
    return f"The {record['animal']} {record['name']} is {record['colour']}, {record['age']} years old and {friendly}."


def _weather_text(record: dict) -> str:
    rain = "with rain" if record["rain"] else "without rain"
    return (f"In {record['city']} it is {record['sky']} and {record['temperature']} degrees, {rain}. "
            f"The wind is {record['wind']}.")


def _order_text(record: dict) -> str:
    paid = "has paid" if record["paid"] else "has not paid"
    return (f"Order {record['order']}: {record['customer']} wants {_list_text(record['items'])} "
            f"for {record['total']} and {paid}.")


TEXTS = {"person": _person_text, "pet": _pet_text, "weather": _weather_text, "order": _order_text}
TYPES = {bool: "boolean", int: "integer", str: "string", list: "[string]"}


def schema_task(rng: random.Random) -> tuple[str, str, str]:
    """Returns (key, request, JSON): the schema says which fields are wanted, in which order."""
    name, make = rng.choice(SCHEMAS)
    record = make(rng)
    text = TEXTS[name](record)
    wanted = rng.sample(list(record), rng.randint(2, min(4, len(record))))
    schema = ", ".join(f'"{field}": {TYPES[type(record[field])]}' for field in wanted)
    request = f"Schema: {{{schema}}}\nText: {text}"
    return request, request, _dump({field: record[field] for field in wanted})


def json_task(rng: random.Random) -> tuple[str, str, str]:
    return pick(rng, (record_task, schema_task))(rng)


def record(rng: random.Random) -> Document:
    key, request, answer = json_task(rng)
    return Document("json", key, (request, "\n" + answer))
