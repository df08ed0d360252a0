#!/bin/sh
# Measures the bundled pair and twins at three settings, and writes docs/agreement_figures.md, the plots beside it and a
# line of docs/results for each: tools/agreement.sh [build/release/bin/mirrorsd]
set -eu
cd "$(dirname "$0")/.."
mirrorsd=${1:-build/release/bin/mirrorsd}
out=docs/agreement_figures.md
results=docs/results/agreement.jsonl
{
  echo "# Agreement, exit recall and acceptance: the figures"
  echo
  echo "Made by \`tools/agreement.sh\`; what they mean is told in [agreement.md](agreement.md)."
  echo
  echo "## The bundled pair"
  echo
  "$mirrorsd" bench agreement --model models/demo-target --draft-model models/demo-draft \
    --temperatures 0,1 --max-tokens 96 --label "bundled pair" --json $results --svg docs/plots/agreement
  for twin in docs/twins/*.json; do
    name=$(basename "$twin" .json)
    echo
    echo "## The twin $name"
    echo
    "$mirrorsd" bench agreement --load-format "twin:$twin" --temperatures 0,1 --label "twin $name" \
      --json $results --svg "docs/plots/twin_$name"
  done
} > $out.partial
mv $out.partial $out
