#!/usr/bin/env bash
# make demo: a cell of separate processes (gateway, scheduler, verifier-worker, draft-worker) on the bundled
# pair; the same prompts without and with speculation, their text as it comes. Ends with everything stopped.
#   tools/demo.sh [TARGET_DIR [DRAFT_DIR]]
#   MIRRORSD_BIN         where the programs lie, default build/release/bin
#   MIRRORSD_DEMO_TOKENS tokens of each answer, default 96
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${MIRRORSD_BIN:-build/release/bin}
target=${1:-models/demo-target}
draft=${2:-models/demo-draft}
tokens=${MIRRORSD_DEMO_TOKENS:-96}
unset MIRRORSD_BIN MIRRORSD_DEMO_TOKENS

[ -x "$bin/mirrorsd" ] || { echo "demo: $bin/mirrorsd is not there; run 'make build'" >&2; exit 1; }
for folder in "$target" "$draft"; do
  [ -f "$folder/config.json" ] || { echo "demo: $folder is no model folder" >&2; exit 1; }
done

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'; else bold='' dim='' off=''; fi

work=$(mktemp -d)
serve=
finish() {
  if [ -n "$serve" ] && kill -0 "$serve" 2>/dev/null; then
    kill -TERM "$serve"
    wait "$serve" || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

"$bin/mirrorsd" serve --separate-processes --model "$target" --draft-model "$draft" \
  --grpc-port 0 --http-port 0 --log-level warning >"$work/serve.out" &
serve=$!
for _ in $(seq 600); do
  grep -q '^ready$' "$work/serve.out" && break
  kill -0 "$serve" 2>/dev/null || { serve=; echo "demo: the cell did not start" >&2; exit 1; }
  sleep 0.1
done
grep -q '^ready$' "$work/serve.out" || { echo "demo: the cell is not ready after a minute" >&2; exit 1; }

value() { sed -n "s/^$1 *\([^ ]*\).*/\1/p" "$work/serve.out" | head -n 1; }
pid() { sed -n "s/^$1 started, pid //p" "$work/serve.out" | tail -n 1; }
server=$(value grpc)

echo "${bold}One cell, four processes${off}"
printf '  %-16s pid %-8s %s\n' gateway "$(pid gateway)" "gRPC $server, HTTP $(value http)" \
  scheduler "$(pid scheduler)" '' verifier-worker "$(pid verifier-worker)" "$target" \
  draft-worker "$(pid draft-worker)" "$draft"

# Prompts that no training text holds, one of each kind, where the model brings some.
prompts() {
  if [ -f "$target/held_out_prompts.jsonl" ] && command -v python3 >/dev/null; then
    python3 - "$target/held_out_prompts.jsonl" <<'PYTHON'
import json, sys
kinds = {}
for line in open(sys.argv[1], encoding="utf-8"):
    prompt = json.loads(line)
    if not prompt["category"].startswith("chat"):
        kinds.setdefault(prompt["category"], prompt["turns"][0])
for text in list(kinds.values())[:6]:
    sys.stdout.write(text + "\0")
PYTHON
  else
    printf '%s\0' 'Once upon a time' 'The first three numbers are' '{"name": "'
  fi
}

answer() {  # answer MODE TITLE: streams the text; keeps text and statistics in $work/MODE.*
  echo "${bold}$2${off}"
  "$bin/mirrorsd" generate --server "$server" --prompt "$prompt" --max-tokens "$tokens" \
    --temperature 0 --speculation "$1" --show-statistics 2>"$work/$1.statistics" |
    tee "$work/$1.text" || { cat "$work/$1.statistics" >&2; exit 1; }
  echo "  ${dim}$(cat "$work/$1.statistics")${off}"
}

number=0
while IFS= read -r -d '' prompt; do
  number=$((number + 1))
  printf '\n%s\n' "${bold}Prompt $number:${off} ${prompt//$'\n'/$'\n'          }"
  answer off "plain decoding"
  answer serial "speculative decoding, draft and target in turn"
  if cmp -s "$work/off.text" "$work/serial.text"; then
    echo "  the same text: speculation changes the speed and nothing else"
  else
    echo "demo: the two texts differ, which must never be" >&2
    exit 1
  fi
done < <(prompts)

echo
kill -TERM "$serve"
wait "$serve" && code=0 || code=$?
serve=
[ "$code" -eq 0 ] || { echo "demo: the cell ended with exit code $code" >&2; exit 1; }
echo "All processes have ended by themselves."
