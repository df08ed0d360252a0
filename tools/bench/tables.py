#!/usr/bin/env python3
"""Rewrites the tables of docs/benchmarks.md from docs/results/rounds.jsonl, between lines of the form

    <!-- rounds LABEL -->  ...  <!-- end -->

where LABEL begins the `what` of a line; the last such line of the file is taken. Usage: tables.py [--check]
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DOC = ROOT / "docs/benchmarks.md"
LINES = ROOT / "docs/results/rounds.jsonl"
BLOCK = re.compile(r"(<!-- rounds (.*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def interval(estimate):
    if not estimate:
        return "-"
    return f"{estimate['median']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def rows(line, temperature, batch):
    """Yields a row per category: acceptance length and speed for each window."""
    figures = [f for f in line["figures"] if f["temperature"] == temperature and f["batch"] == batch]
    contestants = list(dict.fromkeys((f["mode"], f["window"]) for f in figures if f["mode"] != "off"))
    categories = list(dict.fromkeys(f["category"] for f in figures))
    if len(categories) == 2:  # "all" says what the only one says
        categories.remove("all")
    yield ["kind of text", "plain, tokens/s"] + [f"{mode} {window or ''}".strip() + ": length, speed"
                                               for mode, window in contestants]
    for category in categories:
        found = {(f["mode"], f["window"]): f for f in figures if f["category"] == category}
        plain = found.get(("off", 0))
        row = [category, f"{plain['decode_tokens_per_second']['median']:.0f}" if plain else "-"]
        for contestant in contestants:
            figure = found.get(contestant)
            row.append(f"{figure['mean_acceptance_length']:.2f}, {interval(figure['speed_over_plain'])}"
                       if figure else "-")
        yield row


def table(line):
    text = []
    settings = dict.fromkeys((f["temperature"], f["batch"]) for f in line["figures"])
    for temperature, batch in settings:
        text.append(f"Temperature {temperature:g}, batch {batch}:\n")
        for number, row in enumerate(rows(line, temperature, batch)):
            text.append("| " + " | ".join(row) + " |")
            if number == 0:
                text.append("|---" * len(row) + "|")
        text.append("")
    paced = ""
    for role, counts in line.get("paced", {}).items():
        paced += (f" Of {counts['steps']:.0f} paced steps of the {role} {counts['overruns']:.0f} overran and "
                  f"{counts['late_wakes']:.0f} ended late for want of a core.")
    text.append(f"{line['date']}, {line['commit']}, {line['machine']}; other processes kept "
                f"{line['other_busy_cores']:.1f} cores busy; {line['repeats']} repeats, at most "
                f"{line['max_tokens']} tokens; {line['answers_compared_with_plain']} answers the same as plain "
                f"decoding's.{paced} `{line['command']}`\n")
    return "\n".join(text)


def main():
    lines = [json.loads(line) for line in LINES.read_text().splitlines() if line]
    before = DOC.read_text()

    def fill(match):
        found = [line for line in lines if line["what"].startswith(match[2])]
        good = [line for line in found if not line.get("void") and not line.get("interrupted")]
        if not good:
            return match[0]
        return match[1] + "\n" + table(good[-1]) + "\n" + match[4]

    after = BLOCK.sub(fill, before)
    if "--check" in sys.argv:
        return 0 if before == after else 1
    DOC.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
