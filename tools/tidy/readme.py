"""Commands in the README exist: make targets, programs, their subcommands, scripts and paths."""

import re

from source_tree import Breach


def commands(text):
    """Yields (line number, command line) of the fenced sh blocks, prompts and continuations removed."""
    inside, pending, pending_line = False, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = not inside and line.strip() in ("```sh", "```bash", "```console")
            continue
        if not inside:
            continue
        line = re.sub(r"^\$ ", "", line)
        if not pending:
            pending_line = number
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        yield pending_line, (pending + line).strip()
        pending = ""


def make_targets(tree):
    return set(re.findall(r"^([a-z][\w/.-]*):", tree.text("Makefile"), re.MULTILINE))


def built_programs(tree):
    """Programs and test or benchmark binaries, from the CMake calls that make them."""
    names = set()
    for path in tree.paths:
        if path.endswith("CMakeLists.txt"):
            names |= set(re.findall(
                r"(?:mirrorsd_binary|mirrorsd_test|mirrorsd_benchmark|add_executable)\(\s*([\w-]+)",
                tree.text(path)))
    return names


def check_command(tree, command, targets, programs):
    words = command.split()
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words.pop(0)
    if not words or words[0].startswith("#"):
        return
    if words[0] == "make":
        for word in words[1:]:
            if not word.startswith("-") and "=" not in word and word not in targets:
                yield f"make has no target {word}"
    for word in re.findall(r"(?:\./)?build/[a-z]+/(?:bin|tests|bench)/([\w-]+)", command):
        if word not in programs:
            yield f"no target builds {word}"
    for word in re.findall(r"(?<![\w/.])(?:tools|models|docs|tests|proto)/[\w./-]+", command):
        if not (tree.root / word).exists():
            yield f"{word} does not exist"


def check(tree):
    for path in ("README.md", *(p for p in tree.with_suffix(".md") if p.startswith("docs/"))):
        if path not in tree.paths:
            yield Breach("readme", path, 1, "is missing")
            continue
        targets, programs = make_targets(tree), built_programs(tree)
        for line, command in commands(tree.text(path)):
            for text in check_command(tree, command, targets, programs):
                yield Breach("readme", path, line, text)
