#!/usr/bin/env bash
# Line coverage of the files that read what comes from outside, by the committed corpora and by what earlier runs of
# run.sh have found: tests/fuzz/coverage.sh
#   BUILD=build/fuzz-coverage   a tree of its own, built here (clang's source-based coverage, no sanitizers)
#   FOUND=build/asan            whose fuzz/*.corpus is taken beside tests/fuzz/corpus
#   LLVM=/usr/lib/llvm-16/bin   llvm-profdata and llvm-cov of clang 16 (package llvm-16)
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build/fuzz-coverage}
found=${FOUND:-build/asan}
llvm=${LLVM:-/usr/lib/llvm-16/bin}
[ -x "$llvm/llvm-cov" ] || { echo "coverage: no $llvm/llvm-cov: install llvm-16, or set LLVM" >&2; exit 3; }
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=true

flags="-fprofile-instr-generate -fcoverage-mapping"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=clang++-16 \
  -DCMAKE_C_COMPILER=clang-16 -DMIRRORSD_FUZZ=ON -DCMAKE_CXX_FLAGS="$flags" \
  -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1" >"$build.log" 2>&1 ||
  { tail -n 20 "$build.log" >&2; exit 1; }
targets=()
for options in "$build"/fuzz/*.options; do targets+=("$(basename "$options" .options)"); done
ninja -C "$build" -j "${JOBS:-$(nproc)}" "${targets[@]}" >>"$build.log" 2>&1 ||
  { grep -A8 -E 'error|FAILED' "$build.log" | head -n 40 >&2; exit 1; }

rm -f "$build"/fuzz/*.profraw
objects=()
for target in "${targets[@]}"; do
  read -r corpus max_bytes <"$build/fuzz/$target.options"
  folders=("$corpus")
  [ ! -d "$found/fuzz/$target.corpus" ] || folders+=("$found/fuzz/$target.corpus")
  LLVM_PROFILE_FILE="$PWD/$build/fuzz/$target.profraw" "$build/fuzz/$target" -runs=0 \
    "${folders[@]}" >"$build/fuzz/$target.log" 2>&1 ||
    echo "coverage: $target failed, see $build/fuzz/$target.log" >&2
  objects+=(-object "$build/fuzz/$target")
done
"$llvm/llvm-profdata" merge -sparse -o "$build/fuzz/all.profdata" "$build"/fuzz/*.profraw

# The files that parse or check what others wrote.
files=(services/wire/*.cc services/config/{command_line,options,resolve,yaml_file}.cc
  services/text/*.cc services/http/{beast_http,router,health_routes}.cc
  services/gateway/{request_plan,model_text}.cc
  workers/engine/model/loader/{config_fields,rope_fields,safetensors,shape_fields,strict_json}.cc
  workers/engine/model/families/*.cc
  workers/verifier/{verified_sequence,verify_round}.cc workers/draft/*.cc
  scheduler/core/{reports,fleet,admission}.cc)
"$llvm/llvm-cov" report "${objects[@]:1}" -instr-profile="$build/fuzz/all.profdata" "${files[@]}" |
  awk 'NR > 2 && NF >= 10 && $1 !~ /^-/ { printf "%-48s %6d lines %8s covered\n", $1, $8, $10 }'
