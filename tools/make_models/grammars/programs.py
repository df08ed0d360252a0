"""Little Python programs and what they print; the output comes from running them."""

import contextlib
import io
import random

from grammars.document import Document, pick
from grammars.words import COLOURS, FOODS, NAMES


def _loop_add(rng):
    start, step, times = rng.randint(0, 9), rng.randint(1, 5), rng.randint(2, 5)
    return f"x = {start}\nfor i in range({times}):\n    x = x + {step}\n    print(x)\n"


def _countdown(rng):
    start, step = rng.randint(3, 12), rng.randint(1, 3)
    return f"n = {start}\nwhile n > 0:\n    print(n)\n    n = n - {step}\nprint(\"done\")\n"


def _list_loop(rng):
    words = rng.sample(rng.choice((FOODS, COLOURS, NAMES)), rng.randint(2, 4))
    items = ", ".join(f'"{word}"' for word in words)
    body = pick(rng, ("print(item)", 'print("I like", item)', "print(item, len(item))"))
    return f"items = [{items}]\nfor item in items:\n    {body}\n"


def _branch(rng):
    a, b = rng.randint(1, 20), rng.randint(1, 20)
    return (f"a = {a}\nb = {b}\nif a > b:\n    print(\"a is bigger\")\n"
            "elif a < b:\n    print(\"b is bigger\")\nelse:\n    print(\"equal\")\n")


def _function(rng):
    name, body = pick(rng, (("double", "x + x"), ("next", "x + 1"), ("square", "x * x"), ("half", "x // 2")))
    calls = "".join(f"print({name}({value}))\n" for value in rng.sample(range(10), rng.randint(2, 4)))
    return f"def {name}(x):\n    return {body}\n\n{calls}"


def _total(rng):
    numbers = [rng.randint(1, 9) for _ in range(rng.randint(3, 5))]
    return f"total = 0\nfor n in {numbers}:\n    total = total + n\n    print(n, total)\n"


def _parity(rng):
    begin = rng.randint(0, 12)
    end = begin + rng.randint(3, 6)
    return (f"for n in range({begin}, {end}):\n    if n % 2 == 0:\n        print(n, \"even\")\n"
            "    else:\n        print(n, \"odd\")\n")


PROGRAMS = (_loop_add, _list_loop, _function, _countdown, _parity, _total, _branch)


def program_task(rng: random.Random) -> tuple[str, str]:
    """Returns (source, output)."""
    source = pick(rng, PROGRAMS)(rng)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(source, {})  # pylint: disable=exec-used  (the source is made above)
    return source, printed.getvalue().rstrip("\n")


def program(rng: random.Random) -> Document:
    source, output = program_task(rng)
    return Document("program", source, (f"# program\n{source}# output", "\n" + output))
