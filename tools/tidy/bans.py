"""What may not be said where: includes, calls, names, and paths of one machine."""

import re

from source_tree import Breach

# (rule, folders it holds in, folders excepted, pattern over include lines, why)
INCLUDE_BANS = (
    ("sync", ("",), (), r"^absl/synchronization/",
     "std::mutex: the packaged Abseil's Mutex is slow and blind to TSan"),
    ("sans-io", ("scheduler/",), (),
     r"^(grpc|google/protobuf|mirrorsd/|spdlog|thread$|mutex$|chrono$|condition_variable$|random$"
     r"|iostream$|fstream$|absl/random|absl/time/clock|atomic$)",
     "the scheduler has no protobuf, gRPC, thread, clock, log or randomness"),
    ("engine-io", ("workers/",), (),
     r"^(grpc|google/protobuf|mirrorsd/|spdlog|prometheus)", "the engine knows no wire, log or metric"),
    ("engine-blocking", ("workers/engine/",), ("workers/engine/tensor/", "workers/engine/parallel/"),
     r"^(mutex|thread|condition_variable|future|semaphore)$",
     "only engine/tensor and engine/parallel may block"),
    ("heavy", ("",), ("services/http/", "tests/"), r"^boost/beast", "Beast stays in services/http"),
)

LIBM = re.compile(r"(?<![\w.>:])(?:std::|::)?(?:expf?|logf?|log2f?|log10f?|log1pf?|expm1f?|sinf?|cosf?"
                  r"|tanf?|tanhf?|powf?|exp2f?)\s*\(")
LIBM_FOLDERS = ("common/", "workers/")
LIBM_EXCEPT = ("workers/engine/backend/cpu/naive/",)

ABSL_FLAG = re.compile(r"\bABSL_FLAG\s*\(")
CONDITIONAL = re.compile(r"^\s*#\s*(?:if|ifdef|elif|ifndef).*\bMIRRORSD_WITH_", re.MULTILINE)
BAD_NAME = re.compile(r"(^|_)(manager|helper|helpers|util|utils|impl|misc)(_|\.|$)")
MACHINE_PATH = re.compile(r"(^|[^A-Za-z0-9_.$}])/(work|root|home/[a-z]+)/[A-Za-z]")
TEXT = (".cc", ".h", ".cu", ".py", ".rs", ".sh", ".md", ".cmake", ".txt", ".json", ".yaml", ".proto")


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def check_includes(tree, path):
    for line, target, _ in tree.includes(path):
        for rule, folders, excepted, pattern, why in INCLUDE_BANS:
            if (path.startswith(folders) and not (excepted and path.startswith(excepted))
                    and re.search(pattern, target)):
                yield Breach(rule, path, line, f"{target}: {why}")


def check_code(tree, path):
    code = tree.code(path)
    if path.startswith(LIBM_FOLDERS) and not path.startswith(LIBM_EXCEPT):
        for match in LIBM.finditer(code):
            yield Breach("libm", path, line_of(code, match.start()),
                         f"{match.group(0).strip()[:-1]}: libm differs by machine; common/ieee_math.h")
    for match in ABSL_FLAG.finditer(code):
        yield Breach("flag", path, line_of(code, match.start()), "options go through services/config")
    if path != "workers/engine/backend/backends.cc":
        for match in CONDITIONAL.finditer(code):
            yield Breach("conditional", path, line_of(code, match.start()),
                         "backend conditionals live in workers/engine/backend/backends.cc")
    # Highway includes an -inl.h once per target.
    if path.endswith(".h") and not path.endswith("-inl.h") and "#pragma once" not in code:
        yield Breach("once", path, 1, "a header begins with #pragma once")


def check(tree):
    for path in tree.cpp():
        yield from check_includes(tree, path)
        yield from check_code(tree, path)
    for path in tree.paths:
        if BAD_NAME.search(path.rsplit("/", 1)[-1]):
            yield Breach("name", path, 1, "no manager, helper, utils or impl files")
        if path.endswith(TEXT) and not path.startswith("tests/golden/"):
            text = tree.text(path)
            match = MACHINE_PATH.search(text)
            if match:
                yield Breach("path", path, line_of(text, match.start()), "a path of one machine")
