#!/usr/bin/env bash
# make test: builds the three trees and runs what each is for. Prints minutes per phase; the output ends
# with ctest's summary of the release tree, which holds most of the tests. A failed phase does not hide
# the later ones; the exit status tells whether all passed.
#   MIRRORSD_TEST_TREES   which trees, default "asan tsan release" (release runs last)
set -uo pipefail
cd "$(dirname "$0")/.."

# Objects are found again in any checkout of the same sources.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=true

trees=${MIRRORSD_TEST_TREES:-asan tsan release}
failed=()
phase_names=()
phase_seconds=()

phase() {  # phase NAME COMMAND...: runs and times it
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  "$@" || failed+=("$name")
  phase_names+=("$name")
  phase_seconds+=($((SECONDS - start)))
}

report() {
  local i
  echo "== minutes per phase"
  for i in "${!phase_names[@]}"; do
    printf '   %-16s %5.1f\n' "${phase_names[$i]}" \
      "$(awk "BEGIN {print ${phase_seconds[$i]} / 60}")"
  done
  [ ${#failed[@]} -eq 0 ] || echo "   failed so far: ${failed[*]}"
}

build_tree() {
  mkdir -p build
  cmake --preset "$1" >"build/$1-configure.log" 2>&1 || { cat "build/$1-configure.log"; return 1; }
  cmake --build --preset "$1" >"build/$1-build.log" 2>&1 || {
    grep -E -A12 'error|FAILED|warning' "build/$1-build.log" | head -n 80
    return 1
  }
}

test_tree() {  # test_tree TREE [ctest arguments]
  local tree=$1
  shift
  ctest --test-dir "build/$tree" --output-on-failure --no-tests=error -j "$(nproc)" "$@"
}

test_quietly() {  # test_quietly TREE [ctest arguments]: what failed, with its output, and nothing else
  local log=build/$1-test.log
  test_tree "$@" >"$log" 2>&1 && return
  grep -v -E ' Start +[0-9]+: |[.] +Passed ' "$log" | tail -n 300
  return 1
}

phase setup tools/setup.sh
[ ${#failed[@]} -eq 0 ] || exit 1

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

for tree in $trees; do phase "build $tree" build_tree "$tree"; done
for tree in $trees; do
  case $tree in
    asan) phase "test asan" test_quietly asan -LE 'slow|tidy' ;;
    tsan) phase "test tsan" test_quietly tsan -L tsan ;;
  esac
done
report
case " $trees " in
  *" release "*)
    test_tree release || failed+=("test release")
    ;;
esac
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
