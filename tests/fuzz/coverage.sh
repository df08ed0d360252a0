#!/usr/bin/env bash
# Lines that the fuzz targets reach of the files that read what comes from outside, by hand: tests/fuzz/coverage.sh
# Builds the targets once more, with clang's line coverage and without sanitizers, into build/coverage, takes through
# them the committed corpora and what runs of run.sh have found, and prints lines reached, lines, share, per file.
#   BUILD=build/asan   the tree whose findings of run.sh are taken, too
#   ALL=1              every file that was linked, not those alone that parse
# Needs llvm-profdata and llvm-cov of clang 16 (package llvm-16; LLVM says where).
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build/asan}
llvm=${LLVM:-/usr/lib/llvm-16/bin}
[ -x "$llvm/llvm-cov" ] || {
  echo "coverage: no $llvm/llvm-cov: install llvm-16, or set LLVM" >&2
  exit 3
}
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=true
cmake --preset coverage >/dev/null
cmake --build --preset coverage >&2

out=build/coverage/profiles
rm -rf "$out" && mkdir -p "$out"
objects=()
for program in build/coverage/fuzz/*_corpus; do
  target=$(basename "$program" _corpus)
  corpora=("tests/fuzz/corpus/${target%_fuzz}")
  found=$build/fuzz/$target.corpus
  [ -z "$(ls -A "$found" 2>/dev/null)" ] || corpora+=("$found")
  LLVM_PROFILE_FILE=$out/$target.profraw "$program" "${corpora[@]}" >/dev/null
  objects+=(-object "$program")
done
"$llvm/llvm-profdata" merge -o "$out/all.profdata" "$out"/*.profraw
"$llvm/llvm-cov" export -summary-only -instr-profile "$out/all.profdata" "${objects[@]}" | ALL=${ALL:-} python3 -c '
import json, os, sys
PARSERS = ("workers/engine/model/loader/", "workers/engine/model/families/", "services/wire/", "services/text/",
           "services/config/", "services/http/", "services/journal/", "workers/pacing/", "workers/scripts/",
           "services/gateway/request", "services/gateway/chat", "services/bench/prompt")
root, total = os.getcwd() + "/", [0, 0]
for item in json.load(sys.stdin)["data"][0]["files"]:
    path, lines = item["filename"].removeprefix(root), item["summary"]["lines"]
    if path.startswith(("/", "build/", "tests/")) or not path.endswith(".cc"):
        continue
    if os.environ["ALL"] or path.startswith(PARSERS):
        covered, count = lines["covered"], lines["count"]
        total = [total[0] + covered, total[1] + count]
        print(f"{path:56} {covered:5} {count:5} {100 * covered // max(count, 1):4} %")
label = "all of them"
print(f"{label:56} {total[0]:5} {total[1]:5} {100 * total[0] // max(total[1], 1):4} %")
'
