"""The files of the checkout, read once: those that git tracks or would track."""

import dataclasses
import pathlib
import re
import subprocess

CPP = (".cc", ".h", ".cu")


@dataclasses.dataclass
class Breach:
    rule: str
    path: str
    line: int
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: [{self.rule}] {self.text}"


def strip_comments_and_strings(text):
    """Blanks comments and literals, keeping every line break, so that words in them do not count."""
    pattern = re.compile(
        r'R"(?P<tag>[^(\s]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\''
        r"|//[^\n]*|/\*.*?\*/", re.DOTALL)

    def blank(match):
        found = match.group(0)
        if found.startswith(("/", "R")):
            return "\n" * found.count("\n")
        return '""' if found.startswith('"') else "0"

    # A digit separator (1'000) is not a character literal.
    return pattern.sub(blank, re.sub(r"(?<=\d)'(?=\d)", "", text))


class SourceTree:
    """Paths are relative to the root, with forward slashes."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=self.root,
            capture_output=True, text=True, check=True).stdout.split("\n")
        self.paths = sorted(p for p in listed if p and (self.root / p).is_file())
        self._texts = {}

    def text(self, path):
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_text(errors="replace")
        return self._texts[path]

    def with_suffix(self, *suffixes):
        return [p for p in self.paths if p.endswith(suffixes)]

    def cpp(self):
        return self.with_suffix(*CPP)

    def code(self, path):
        """The text of a C++ file without comments and literals."""
        return strip_comments_and_strings(self.text(path))

    def includes(self, path):
        """Yields (line number, included path, whether quoted)."""
        for number, line in enumerate(self.text(path).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
            if match:
                yield number, match.group(2), match.group(1) == '"'
