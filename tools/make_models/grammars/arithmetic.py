"""Sums worked out step by step, tables, sequences, and word problems."""

import random

from grammars.document import Document, pick
from grammars.words import NAMES, THINGS, pronouns


def _column_add(a: int, b: int) -> list[str]:
    """The written method, from the ones upwards."""
    lines, carry = [], 0
    top, bottom = str(a)[::-1], str(b)[::-1]
    for place in range(max(len(top), len(bottom))):
        parts = [digits[place] for digits in (top, bottom) if place < len(digits)]
        terms = parts + (["1"] if carry else [])
        total = sum(map(int, terms))
        last = place == max(len(top), len(bottom)) - 1
        carry = 0 if last else total // 10
        line = " + ".join(terms) + f" = {total}, write {total if last else total % 10}"
        lines.append(line + (", carry 1." if carry else "."))
    return lines


def _column_subtract(a: int, b: int) -> list[str]:
    lines, borrow = [], 0
    top, bottom = str(a)[::-1], str(b)[::-1].ljust(len(str(a)), "0")
    for place, digit in enumerate(top):
        upper, lower = int(digit), int(bottom[place])
        taken = f" - {borrow}" if borrow else ""
        value = upper - lower - borrow
        borrow = 1 if value < 0 else 0
        if borrow:
            lines.append(f"{upper + 10} - {lower}{taken} = {value + 10}, write {value + 10}, borrow 1.")
        else:
            lines.append(f"{upper} - {lower}{taken} = {value}, write {value}.")
    return lines


def _column_multiply(a: int, b: int) -> list[str]:
    lines, carry = [], 0
    digits = str(a)[::-1]
    for place, digit in enumerate(digits):
        total = int(digit) * b + carry
        added = f" + {carry}" if carry else ""
        last = place == len(digits) - 1
        carry = 0 if last else total // 10
        line = f"{digit} * {b}{added} = {total}, write {total if last else total % 10}"
        lines.append(line + (f", carry {carry}." if carry else "."))
    return lines


def addition(rng: random.Random) -> tuple[str, str, str]:
    low, high = pick(rng, ((10, 99), (100, 999)))
    a, b = rng.randint(low, high), rng.randint(10, high)
    steps = "\n".join(_column_add(a, b))
    return f"{a} + {b}", f"Add {a} and {b}.", f"{steps}\n{a} + {b} = {a + b}"


def subtraction(rng: random.Random) -> tuple[str, str, str]:
    a = rng.randint(20, 99)
    b = rng.randint(10, a)
    steps = "\n".join(_column_subtract(a, b))
    return f"{a} - {b}", f"Subtract {b} from {a}.", f"{steps}\n{a} - {b} = {a - b}"


def multiplication(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(11, 99), rng.randint(2, 9)
    steps = "\n".join(_column_multiply(a, b))
    return f"{a} * {b}", f"Multiply {a} by {b}.", f"{steps}\n{a} * {b} = {a * b}"


def counting(rng: random.Random) -> tuple[str, str, str]:
    step, begin = rng.randint(1, 6), rng.randint(0, 20)
    numbers = [begin + step * i for i in range(rng.randint(5, 9))]
    task = f"Count from {begin} to {numbers[-1]} by {step}."
    return task, task, ", ".join(map(str, numbers))


def sorting(rng: random.Random) -> tuple[str, str, str]:
    numbers = rng.sample(range(10), rng.randint(4, 6))
    task = "Sort these numbers: " + ", ".join(map(str, numbers))
    return task, task, ", ".join(map(str, sorted(numbers)))


def word_problem(rng: random.Random) -> tuple[str, str, str]:
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    a, b = rng.randint(3, 9), rng.randint(1, 9)
    he = pronouns(name)["He"]
    if rng.random() < 0.5 and b < a:
        event, sign, total = f"{he} gives away {b} of them.", "-", a - b
    else:
        event, sign, total = f"{he} finds {b} more.", "+", a + b
    task = f"{name} has {a} {things}. {event} How many {things} does {name} have now?"
    answer = f"{a} {sign} {b} = {total}\n{name} has {total} {things if total != 1 else things[:-1]} now."
    return f"{name} {a} {sign} {b} {things}", task, answer


TASKS = (addition, subtraction, multiplication, counting, sorting, word_problem)


def arithmetic(rng: random.Random) -> Document:
    key, task, answer = pick(rng, TASKS)(rng)
    return Document("arithmetic", "arithmetic " + key, (task, "\n" + answer))
