#!/usr/bin/env bash
# Runs every fuzz target, by hand: tests/fuzz/run.sh SECONDS [TARGET...]
# SECONDS is for each target. Prints one line per target: executions, features covered, inputs that crashed, hung or
# grew too large; those lie in $BUILD/fuzz/TARGET.found/. What was learned is kept in $BUILD/fuzz/TARGET.corpus/.
# Exits 1 where anything was found.
#   BUILD=build/asan   the tree that has the targets (cmake --preset asan)
#   JOBS=N             targets at a time; default: one per core
#   MERGE=1            no fuzzing: adds to tests/fuzz/corpus what covers more, smallest inputs first
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:?usage: tests/fuzz/run.sh SECONDS [TARGET...]}
shift
build=${BUILD:-build/asan}
jobs=${JOBS:-$(nproc)}
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for options in "$build"/fuzz/*.options; do targets+=("$(basename "$options" .options)"); done
fi

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

fuzz() {  # fuzz TARGET: one line of result
  local target=$1 corpus max_bytes log=$build/fuzz/$1.log found=$build/fuzz/$1.found
  read -r corpus max_bytes <"$build/fuzz/$target.options"
  mkdir -p "$found" "$build/fuzz/$target.corpus"
  "$build/fuzz/$target" -max_total_time="$seconds" -max_len="$max_bytes" -timeout=60 \
    -rss_limit_mb=3000 -malloc_limit_mb=1500 -print_final_stats=1 -artifact_prefix="$found/" \
    "$build/fuzz/$target.corpus" "$corpus" >"$log" 2>&1 || true
  local executions features bad
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  features=$(sed -n 's/.* ft: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  bad=$(find "$found" -type f | wc -l)
  printf '%-18s %12s executions %8s features %4s found\n' "$target" "${executions:-?}" \
    "${features:-?}" "$bad"
  [ "$bad" -eq 0 ] && [ -n "$executions" ]
}

merge() {  # merge TARGET: what the corpus lacks, minimised
  local target=$1 corpus max_bytes
  read -r corpus max_bytes <"$build/fuzz/$target.options"
  "$build/fuzz/$target" -merge=1 -max_len="$max_bytes" "$corpus" "$build/fuzz/$target.corpus" \
    >"$build/fuzz/$target.log" 2>&1
  printf '%-18s %6s inputs %8s bytes\n' "$target" "$(find "$corpus" -type f | wc -l)" \
    "$(du -sb "$corpus" | cut -f1)"
}

work=fuzz
[ -z "${MERGE:-}" ] || work=merge
failed=0
for target in "${targets[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || failed=1; done
  "$work" "$target" &
done
while [ -n "$(jobs -rp)" ]; do wait -n || failed=1; done
exit "$failed"
