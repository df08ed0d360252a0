#!/bin/sh
# Measures every figure of docs/benchmarks.md that is about rounds, writes the lines, the plots and the tables. From the
# root of the tree, after a release build. Takes about a quarter of an hour; for quiet figures as root on a machine with
# nothing else to do (it then runs at the highest priority).
#
#   tools/bench/rounds.sh [demo] [twins] [paced] [again]     (nothing named: all)
set -eu
bin=${MIRRORSD_BIN:-build/release/bin}
lines=docs/results/rounds.jsonl
plots=docs/plots
pair="--model models/demo-target --draft-model models/demo-draft"

rounds() { # NAME LABEL OPTIONS...: one line and the plots of NAME
  name=$1 label=$2
  shift 2
  echo "== $name: $label" >&2
  if [ -w /proc/self/autogroup ] && [ "$(id -u)" = 0 ]; then
    setsid -w sh -c 'echo -20 >/proc/self/autogroup; exec nice -n -20 "$@"' quiet \
      "$bin/mirrorsd" bench rounds "$@" --label "$label" --json $lines --svg $plots/$name
  else
    "$bin/mirrorsd" bench rounds "$@" --label "$label" --json $lines --svg $plots/$name
  fi
}

demo() {
  rounds demo "demo pair, one process" $pair --windows 2,4,8 --temperatures 0,1 --prompts-per-category 3
}

# Twice the same; the second of the two is compared with the first.
again() {
  for turn in first second; do
    "$bin/mirrorsd" bench rounds $pair --windows 4 --prompts-per-category 2 --label "demo pair, agreement" \
      --json build/rounds-$turn.jsonl >/dev/null
  done
  "$bin/mirrorsd" bench rounds --compare build/rounds-first.jsonl --compare build/rounds-second.jsonl
}

paced() {
  pace="--windows 2,4,8 --prompts-per-category 1 --repeats 3 --max-tokens 48"
  rounds paced-14b "demo pair paced as Qwen3-14B on an H100, Qwen3-0.6B on an NPU (synthetic times)" $pair $pace \
    --device-profile h100-qwen3-14b --draft-device-profile npu-qwen3-0.6b
  rounds paced-8b "demo pair paced as Llama-3.1-8B on an H100, Llama-3.2-1B on an NPU (synthetic times)" $pair $pace \
    --device-profile h100-llama-3.1-8b --draft-device-profile npu-llama-3.2-1b
  rounds paced-70b "demo pair paced as Llama-3.3-70B on 8 H100, Llama-3.2-1B on one (synthetic times)" $pair $pace \
    --device-profile 8xh100-llama-3.3-70b --draft-device-profile h100-llama-3.2-1b
  rounds paced-paper "demo pair paced as the paper's set-up, as far as known (synthetic times)" $pair $pace \
    --device-profile mirror-sd-target-qwen3-14b --draft-device-profile mirror-sd-draft-qwen3-0.6b
}

[ $# -gt 0 ] || set -- demo again paced
for part in "$@"; do $part; done
python3 tools/bench/tables.py
