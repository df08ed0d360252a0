#!/usr/bin/env bash
# What the fuzz targets reach of the files that read what comes from outside, by hand: tests/fuzz/coverage.sh
# Prints file, edges covered, edges, share (edges of the sanitizers' own checks are counted, and no right program
# takes those: compare between runs, do not aim at 100), over the committed corpora and what runs of run.sh have found.
#   BUILD=build/asan   the tree that has the targets (cmake --preset asan)
# Needs llvm-symbolizer of clang 16 (package llvm-16; SYMBOLIZER says where).
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build/asan}
export ASAN_SYMBOLIZER_PATH=${SYMBOLIZER:-/usr/lib/llvm-16/bin/llvm-symbolizer}
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
[ -x "$ASAN_SYMBOLIZER_PATH" ] || {
  echo "coverage: no $ASAN_SYMBOLIZER_PATH: install llvm-16, or set SYMBOLIZER" >&2
  exit 3
}
for options in "$build"/fuzz/*.options; do
  target=$(basename "$options" .options)
  [ -x "$build/fuzz/$target" ] || continue
  read -r corpus max_bytes <"$options"
  "$build/fuzz/$target" -runs=0 -timeout=60 -artifact_prefix="$build/fuzz/" \
    -print_coverage=1 "$corpus" "$build/fuzz/$target.corpus" 2>&1 |
    grep -a 'COVERED_FUNC' || echo "coverage: nothing from $target" >&2
done | python3 -c '
# A function is taken where some target covers most of it: the targets share libraries.
import os, re, sys
best = {}
for line in sys.stdin:
    found = re.search(r"edges: (\d+)/(\d+) (.*) (\S+):(\d+)$", line)
    if not found:
        continue
    covered, edges, name, path, at = found.groups()
    path = os.path.normpath(path)
    for top in ("services/", "workers/", "scheduler/"):
        if "/" + top in path:
            path = path[path.rindex("/" + top) + 1:]
            break
    else:
        continue
    key = (path, name, at)
    best[key] = max(best.get(key, (0, 0)), (int(covered), int(edges)))
files = {}
for (path, name, at), (covered, edges) in best.items():
    total = files.setdefault(path, [0, 0])
    total[0] += covered
    total[1] += edges
for path, (covered, edges) in sorted(files.items()):
    if path.endswith(".cc"):
        print(f"{path:56} {covered:5} {edges:5} {100 * covered // max(edges, 1):4} %")
'
