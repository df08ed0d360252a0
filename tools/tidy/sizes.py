"""Small enough to hold: lines of headers, sources, tests and functions, files in a folder."""

import collections
import re

from source_tree import Breach

HEADER, SOURCE, TEST, FUNCTION, FOLDER = 300, 600, 800, 70, 20
LINE_WIDTH = 120
CODE = (".cc", ".h", ".cu", ".py", ".rs", ".sh", ".proto")


def limit_of(path):
    if path.startswith("tests/"):
        return TEST
    # An -inl.h is code that a source compiles once per target.
    return HEADER if path.endswith(".h") and not path.endswith("-inl.h") else SOURCE


def cpp_functions(code):
    """Yields (first line, number of lines) of each outermost braced body that is a function's."""
    depth_stack, line = [], 1
    head_start = 0
    for index, char in enumerate(code):
        if char == "\n":
            line += 1
        elif char == "{":
            head = code[head_start:index]
            # A function's head ends in its parameter list, qualifiers or an initializer list.
            is_function = (bool(re.search(r"\)\s*(const|noexcept|override|final|->[^;{}]*|:[^;{}]*)*\s*$",
                                          head, re.DOTALL))
                           and not re.match(r"\s*(namespace|class|struct|enum|union|extern)\b",
                                            head.lstrip())
                           and not any(kind for kind, _ in depth_stack))
            depth_stack.append((is_function, line))
            head_start = index + 1
        elif char == "}":
            if depth_stack:
                is_function, start = depth_stack.pop()
                if is_function:
                    yield start, line - start + 1
            head_start = index + 1
        elif char == ";":
            head_start = index + 1


def python_functions(text):
    lines = text.splitlines()
    for index, line in enumerate(lines):
        match = re.match(r"(\s*)def ", line)
        if not match:
            continue
        indent, end = len(match.group(1)), index + 1
        for number in range(index + 1, len(lines)):
            if lines[number].strip():
                if (len(lines[number]) - len(lines[number].lstrip()) <= indent
                        and not lines[number].lstrip().startswith(")")):
                    break
                end = number + 1
        yield index + 1, end - index


def check(tree):
    folders = collections.Counter()
    for path in tree.paths:
        if not path.endswith(CODE):
            continue
        folders[path.rsplit("/", 1)[0] if "/" in path else "."] += 1
        text = tree.text(path)
        count = text.count("\n")
        if count > limit_of(path):
            yield Breach("size", path, 1, f"{count} lines, the limit is {limit_of(path)}")
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > LINE_WIDTH:
                yield Breach("width", path, number, f"{len(line)} columns, the limit is {LINE_WIDTH}")
        functions = ()
        if path.endswith((".cc", ".h", ".cu")):
            functions = cpp_functions(tree.code(path))
        elif path.endswith(".py"):
            functions = python_functions(text)
        for start, length in functions:
            if length > FUNCTION:
                yield Breach("function", path, start, f"{length} lines, the limit is {FUNCTION}")
    for folder, count in folders.items():
        if count > FOLDER:
            yield Breach("folder", folder, 1, f"{count} files, the limit is {FOLDER}")
