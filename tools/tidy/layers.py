"""The dependency law, over every #include: which folder may see which.

A folder may include itself, what its row names, and what those rows name in turn only if listed too: the
table is the whole law. The longest prefix of a path finds its row.
"""

from source_tree import Breach

COMMON = ["common"]
TENSOR = COMMON + ["workers/engine/tensor"]
BACKEND_H = TENSOR + ["workers/engine/backend/backend.h"]
ENGINE = BACKEND_H + ["workers/engine"]
SESSIONS = COMMON + ["workers/engine", "workers/session"]
RPC = COMMON + ["proto", "services/wire", "services/runtime", "services/rpc"]
ROLE = RPC + ["services/telemetry"]
# A benchmark runs what the programs run; what all of them share (services/bench) knows no role.
BENCHMARK = ["common", "proto", "scheduler/core", "scheduler/policy", "workers", "services"]

MAY_INCLUDE = {
    "common": [],
    "scheduler/policy": COMMON,
    "scheduler/odds": COMMON,
    "scheduler/books": COMMON,
    "scheduler/core": COMMON + ["scheduler/odds", "scheduler/books"],
    "scheduler/transcript": COMMON + ["scheduler/core"],
    "workers/engine/tensor": COMMON,
    "workers/engine/limits": TENSOR,
    "workers/engine/backend": BACKEND_H,
    "workers/engine/backend/backends.cc": BACKEND_H + ["workers/engine/backend"],
    "workers/engine/kv_cache": BACKEND_H,
    "workers/engine/sampling": BACKEND_H,
    "workers/engine/parallel": BACKEND_H,
    "workers/engine/model": BACKEND_H + ["workers/engine/kv_cache"],
    "workers/engine": ENGINE,
    "workers/measure": COMMON + ["workers/engine"],
    "workers/pacing": COMMON + ["workers/engine"],
    "workers/scripts": COMMON + ["workers/engine"],
    "workers/session": COMMON + ["workers/engine"],
    "workers/draft": SESSIONS + ["workers/scripts"],
    "workers/verifier": SESSIONS,
    "services/runtime": COMMON,
    "services/telemetry": COMMON,
    "services/config": COMMON,
    "services/text": COMMON,
    "services/wire": COMMON + ["proto"],
    "services/wire/journal": COMMON + ["proto", "services/wire", "scheduler/core"],
    "services/journal": COMMON + ["proto", "services/wire", "services/telemetry", "scheduler"],
    "services/journal/branches": COMMON + ["scheduler/core"],
    "services/trace": COMMON + ["services/wire", "services/journal", "scheduler/core"],
    "services/rpc": RPC,
    "services/http": COMMON + ["services/runtime"],
    "services/scheduler": ROLE + ["scheduler/core", "scheduler/policy", "services/journal"],
    "services/worker": RPC + ["workers/engine", "workers/pacing", "workers/scripts", "services/telemetry",
                               "services/text"],
    "services/draft": ["services/worker", "workers/draft"],
    "services/verifier": ["services/worker", "workers/verifier"],
    "services/gateway": ROLE + ["services/text", "services/http", "services/config"],
    "services/bench": COMMON + ["services/runtime"],
    "services/bench/options": BENCHMARK,
    "services/bench/engine": BENCHMARK,
    "services/bench/rounds": BENCHMARK,
    "services/bench/record": BENCHMARK,
    "services/bench/agreement": BENCHMARK,
    "services/bench/tune": BENCHMARK + ["scheduler/policy"],
    "services/cell": ["common", "proto", "scheduler/policy", "scheduler/core", "workers", "services"],
    "services/cli": ["common", "proto", "scheduler/policy", "scheduler/core", "workers", "services"],
    "tools": ["common", "proto", "scheduler", "workers", "services", "tools"],
    "tests": ["common", "proto", "scheduler", "workers", "services", "tests", "tools"],
}

GENERATED_PROTO = "mirrorsd/"  # build output of proto/


def find_row(path):
    best = None
    for prefix in MAY_INCLUDE:
        if path == prefix or path.startswith(prefix + "/"):
            if best is None or len(prefix) > len(best):
                best = prefix
    return best


def covered(target, prefixes):
    return any(target == p or target.startswith(p + "/") for p in prefixes)


def check(tree):
    own_tops = {p.split("/")[0] for p in MAY_INCLUDE}
    for path in tree.cpp():
        row = find_row(path)
        if row is None:
            yield Breach("layer", path, 1, "lies in no folder that the dependency law knows")
            continue
        # A single file's row stands for its folder too.
        own_folder = row if not row.endswith((".h", ".cc")) else row.rsplit("/", 1)[0]
        for line, target, quoted in tree.includes(path):
            if quoted and target.startswith(GENERATED_PROTO):
                target = "proto/" + target
            elif not quoted or target.split("/")[0] not in own_tops:
                continue
            if not covered(target, MAY_INCLUDE[row] + [own_folder]):
                yield Breach("layer", path, line, f"{row} may not include {target}")
