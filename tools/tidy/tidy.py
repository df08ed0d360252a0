#!/usr/bin/env python3
"""Style is a test: checks the tree against the rules of the house and prints every breach.

Usage: tidy.py [--root DIR]. Exit status: 0 clean, 1 breaches, 2 usage.
Exceptions stand in exceptions.txt beside this file: "RULE PATH REASON", one a line; an exception that no
longer excuses anything is a breach itself, so that the list only shrinks.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import bans  # noqa: E402
import layers  # noqa: E402
import readme  # noqa: E402
import sizes  # noqa: E402
import targets  # noqa: E402
from source_tree import SourceTree  # noqa: E402

CHECKS = (layers.check, sizes.check, bans.check, targets.check, readme.check)


def read_exceptions(path):
    """Returns {(rule, path): line number}; every line must give a reason."""
    exceptions = {}
    if not path.exists():
        return exceptions
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(maxsplit=2)
        if len(parts) < 3:
            raise SystemExit(f"{path}:{number}: an exception is 'RULE PATH REASON'")
        exceptions[(parts[0], parts[1])] = number
    return exceptions


def run(root, exceptions_path):
    """Returns the list of breaches as text lines."""
    tree = SourceTree(root)
    exceptions = read_exceptions(exceptions_path)
    used, lines = set(), []
    for check in CHECKS:
        for breach in check(tree):
            key = (breach.rule, breach.path)
            if key in exceptions:
                used.add(key)
            else:
                lines.append(str(breach))
    for key, number in exceptions.items():
        if key not in used:
            lines.append(f"{exceptions_path.name}:{number}: excuses nothing: {key[0]} {key[1]}")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--root", type=pathlib.Path, default=here.parent.parent)
    arguments = parser.parse_args()
    lines = run(arguments.root, here / "exceptions.txt")
    for line in lines:
        print(line)
    print(f"tidy: {len(lines)} breaches" if lines else "tidy: clean")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
