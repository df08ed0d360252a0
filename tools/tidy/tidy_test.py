#!/usr/bin/env python3
"""Each rule finds what it is for: a tree with one planted breach, and the same tree without it."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import tidy  # noqa: E402

CLEAN = {
    "README.md": "# x\n```sh\nmake test\n```\n",
    "Makefile": "test:\n\ttrue\n",
    "common/CMakeLists.txt": "mirrorsd_library(common SOURCES a.cc)\n",
    "common/a.h": "#pragma once\n",
    "common/a.cc": '#include "common/a.h"\n',
}


class TidyTest(unittest.TestCase):
    def breaches(self, changes):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            subprocess.run(["git", "init", "-q", folder], check=True)
            for name, text in {**CLEAN, **changes}.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return tidy.run(root, root / "exceptions.txt")

    def assert_breach(self, rule, changes):
        lines = self.breaches(changes)
        self.assertEqual(len(lines), 1, lines)
        self.assertIn(f"[{rule}]", lines[0])

    def test_clean_tree_is_clean(self):
        self.assertEqual(self.breaches({}), [])

    def test_layer_law(self):
        self.assert_breach("layer", {"common/a.cc": '#include "scheduler/core/core.h"\n'})
        self.assert_breach("layer", {"common/a.cc": '#include "mirrorsd/v1/inference.pb.h"\n'})

    def test_unknown_folder(self):
        self.assert_breach("layer", {"attic/b.h": "#pragma once\n"})

    def test_sizes(self):
        self.assert_breach("size", {"common/a.h": "#pragma once\n" + "\n" * 300})
        body = "void F() {\n" + "  int x = 0;\n" * 70 + "}\n"
        self.assert_breach("function", {"common/a.cc": body})
        self.assert_breach("width", {"common/a.cc": "// " + "x" * 120 + "\n"})

    def test_folder_size(self):
        self.assert_breach("folder", {f"common/h{i}.h": "#pragma once\n" for i in range(20)})

    def test_banned_includes(self):
        self.assert_breach("sync", {"common/a.cc": '#include "absl/synchronization/mutex.h"\n'})
        self.assert_breach("sans-io", {
            "scheduler/core/c.h": "#pragma once\n#include <chrono>\n"})
        self.assert_breach("engine-blocking", {
            "workers/engine/model/m.h": "#pragma once\n#include <mutex>\n"})

    def test_libm(self):
        self.assert_breach("libm", {"common/a.cc": "float f = std::exp(1.0f);\n"})
        self.assertEqual(self.breaches({"common/a.cc": "// std::exp(1)\nint x = node.exp(1);\n"}), [])

    def test_conditional(self):
        self.assert_breach("conditional", {"common/a.cc": "#if MIRRORSD_WITH_CUDA\n#endif\n"})

    def test_file_in_no_target(self):
        self.assert_breach("target", {"common/b.cc": "int b;\n"})

    def test_names(self):
        self.assert_breach("name", {"common/string_utils.h": "#pragma once\n"})

    def test_machine_path(self):
        self.assert_breach("path", {"common/a.cc": "// see /" + "root/thing\n"})

    def test_readme_commands(self):
        self.assert_breach("readme", {"README.md": "```sh\nmake nothing\n```\n"})
        self.assert_breach("readme", {"README.md": "```sh\nbuild/release/bin/nothing\n```\n"})
        self.assert_breach("readme", {"README.md": "```sh\ntools/nothing.sh\n```\n"})

    def test_exception_must_excuse(self):
        lines = self.breaches({"exceptions.txt": "size common/a.h a reason\n"})
        self.assertEqual(len(lines), 1)
        self.assertIn("excuses nothing", lines[0])


if __name__ == "__main__":
    unittest.main()
