"""Every source file stands in its folder's CMakeLists.txt (or a parent's): nothing is left unbuilt."""

import re

from source_tree import Breach

BUILT = (".cc", ".cu")


def listed_files(tree):
    """Paths that the CMakeLists.txt files name."""
    found = set()
    for path in tree.paths:
        if not path.endswith("CMakeLists.txt"):
            continue
        folder = path[: -len("CMakeLists.txt")]
        text = re.sub(r"#[^\n]*", "", tree.text(path))
        for name in re.findall(r"[\w./${}+-]+\.(?:cc|cu)\b", text):
            name = name.replace("${PROJECT_SOURCE_DIR}/", "/").replace(
                "${CMAKE_CURRENT_SOURCE_DIR}/", "")
            found.add(name[1:] if name.startswith("/") else folder + name)
    return found


def check(tree):
    listed = listed_files(tree)
    for path in tree.with_suffix(*BUILT):
        if path not in listed:
            yield Breach("target", path, 1, "stands in no CMakeLists.txt")
