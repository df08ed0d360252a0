#!/bin/sh
# Measures the demo pair and the small twins of docs/twins teacher-forced, and writes docs/agreement_figures.md,
# plots and a line of docs/results/agreement.jsonl for each. From the root of the tree, after a release build. Takes
# seconds on an idle machine; as root it runs at the highest priority.
#
#   tools/bench/agreement.sh
set -eu
bin=${MIRRORSD_BIN:-build/release/bin}
lines=docs/results/agreement.jsonl
out=docs/agreement_figures.md

agreement() { # NAME WHAT OPTIONS...: a section with its tables and plots
  name=$1 what=$2
  shift 2
  echo
  echo "## $what"
  echo
  tools/bench/quietly.sh "$bin/mirrorsd" bench agreement --temperatures 0,1 --label "$what" --json $lines \
    --svg docs/plots/$name "$@"
  echo
  for plot in agreement_t0 recall_given_reject_t0 agreement_t1 recall_given_reject_t1 acceptance_t1; do
    echo "![$plot](plots/$name/$plot.svg)"
  done
}

{
  echo "# Agreement, exit recall and acceptance: the figures"
  echo
  echo "Made by \`tools/bench/agreement.sh\`; what the words mean is told in [agreement.md](agreement.md)."
  agreement agreement-demo "demo pair" --model models/demo-target --draft-model models/demo-draft --max-tokens 96
  for twin in docs/twins/small-*.json; do
    name=$(basename "$twin" .json)
    agreement "agreement-twin-$name" "twin $name" --load-format "twin:$twin"
  done
} > $out.partial
mv $out.partial $out
