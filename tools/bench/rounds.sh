#!/bin/sh
# Measures every figure of docs/benchmarks.md that is about rounds, writes the lines, the plots and the tables. From the
# root of the tree, after a release build. Takes about ten minutes; for quiet figures as root on a machine with nothing
# else to do (it then runs at the highest priority).
#
#   tools/bench/rounds.sh [demo] [again] [paced] [batches] [scripted] [twins]   (nothing named: all)
set -eu
bin=${MIRRORSD_BIN:-build/release/bin}
lines=docs/results/rounds.jsonl
plots=docs/plots
pair="--model models/demo-target --draft-model models/demo-draft"

rounds() { # NAME WHAT OPTIONS...: one line and the plots of NAME
  name=$1 what=$2
  shift 2
  echo "== $name: $what" >&2
  for try in 1 2 3; do # a paced run that was disturbed is void, says so, and is tried again
    tools/bench/quietly.sh "$bin/mirrorsd" bench rounds "$@" --label "$what" --json $lines --svg $plots/$name && return
  done
  echo "== $name: no good run" >&2
}

demo() {
  rounds demo "demo pair, one process" $pair --windows 2,4,8 --temperatures 0,1 --prompts-per-category 3 --repeats 15
}

# Twice the same, one after the other; the second is compared with the first.
again() {
  rm -f build/rounds-first.jsonl build/rounds-second.jsonl
  for turn in first second; do
    tools/bench/quietly.sh "$bin/mirrorsd" bench rounds $pair --windows 2,4,8 --prompts-per-category 2 --repeats 9 \
      --label "demo pair, agreement" --json build/rounds-$turn.jsonl >/dev/null
  done
  "$bin/mirrorsd" bench rounds --compare build/rounds-first.jsonl --compare build/rounds-second.jsonl
}

paced() {
  pace="--windows 2,4,8 --prompts-per-category 1 --repeats 3 --max-tokens 48"
  rounds paced-14b "demo pair paced as Qwen3-14B on an H100, Qwen3-0.6B on an NPU (synthetic times)" $pair $pace \
    --device-profile h100-qwen3-14b --draft-device-profile npu-qwen3-0.6b
  rounds paced-8b "demo pair paced as Llama-3.1-8B on an H100, Llama-3.2-1B on an NPU (synthetic times)" $pair $pace \
    --device-profile h100-llama-3.1-8b --draft-device-profile npu-llama-3.2-1b
  rounds paced-paper "demo pair paced as the paper's set-up, as far as known (synthetic times)" $pair $pace \
    --device-profile mirror-sd-target-qwen3-14b --draft-device-profile mirror-sd-draft-qwen3-0.6b
}

story="--prompts models/demo-target/held_out_prompts.jsonl --categories story"

# Agreement is set by the damping of the layers above the draft; what came of it is in the acceptance rate.
batches() {
  for damping in 0.02 0.05 0.12; do
    label="synthetic twin of micro layers, damping $damping, paced as Llama-3.3-70B on 8 H100, Llama-3.2-1B on one"
    rounds batches-$damping "$label" \
      --load-format twin:micro,draft-damping=$damping,exit-damping=$damping $story --prompts-per-category 4 \
      --batches 1,4,16 --windows 2,4,8 --repeats 3 --max-tokens 48 \
      --device-profile 8xh100-llama-3.3-70b --draft-device-profile h100-llama-3.2-1b
  done
}

# A draft that proposes what a recording of the target says, with a set agreement at every token.
scripted() {
  "$bin/mirrorsd" bench record --load-format twin:micro $story --prompts-per-category 4 --max-tokens 48 \
    --record build/twin-script.jsonl
  for agreement in 0.6 0.8 0.9; do
    play="--load-format twin:micro $story --prompts-per-category 4 --max-tokens 48 --windows 2,4,8 --repeats 3"
    play="$play --draft-script build/twin-script.jsonl --draft-script-agreement $agreement"
    whose="scripted draft of agreement $agreement"
    rounds scripted-70b-$agreement "$whose, paced as Llama-3.3-70B on 8 H100, Llama-3.2-1B on one (synthetic)" $play \
      --device-profile 8xh100-llama-3.3-70b --draft-device-profile h100-llama-3.2-1b
    rounds scripted-14b-$agreement "$whose, paced as Qwen3-14B on an H100, Qwen3-0.6B on an NPU (synthetic)" $play \
      --device-profile h100-qwen3-14b --draft-device-profile npu-qwen3-0.6b
  done
}

twins() {
  for twin in 0.5b,0.02 0.5b,0.06 1.5b,0.02; do
    shape=${twin%,*} damping=${twin#*,}
    rounds twin-$shape-$damping "synthetic twin of $shape, damping $damping" \
      --load-format twin:$shape,draft-damping=$damping,exit-damping=$damping $story --prompts-per-category 1 \
      --windows 2,4 --repeats 5 --max-tokens 24
  done
  rounds twin-0.5b-a80 "synthetic twin of 0.5b, agreement 0.80" --load-format twin:docs/twins/0.5b-a80.json $story \
    --prompts-per-category 2 --windows 2,4,8 --repeats 5 --max-tokens 32
}

[ $# -gt 0 ] || set -- demo again paced batches scripted twins
for part in "$@"; do $part; done
python3 tools/bench/tables.py
