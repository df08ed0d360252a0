"""Holds the simulator against paced runs of `mirrorsd bench rounds`: one request at a time, the same profiles.

A round's time does not depend on what is accepted, so it is compared: acceptance length over speed as
measured, against what the simulator says with the same one-way time. Python 3, standard library only.

  python3 tools/simulate/against_paced.py --simulate build/release/bin/mirrorsd-simulate [--one-way-us 150]
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile


def option(command, name):
    found = re.search(r"--" + name + r"[ =]('[^']*'|\S+)", command)
    return found.group(1).strip("'") if found else None


def measured(path):
    for line in open(path, encoding="utf-8"):
        run = json.loads(line)
        command = run["command"]
        target, draft = option(command, "device-profile"), option(command, "draft-device-profile")
        if not target or not draft:
            continue
        for figure in run["figures"]:
            if figure["category"] != "all" and len({f["category"] for f in run["figures"]}) > 1:
                continue
            if figure["mode"] not in ("off", "serial") or figure["batch"] != 1:
                continue
            length = figure.get("mean_acceptance_length") or 1
            speed = figure["decode_tokens_per_second"]
            yield {"what": run["what"], "target": target, "draft": draft, "tokens": run["max_tokens"],
                   "mode": figure["mode"], "window": figure["window"], "length": length,
                   "ms": 1000 * length / speed["median"],
                   "low": 1000 * length / speed["high"], "high": 1000 * length / speed["low"]}


def acceptance_of(length, window):
    low, high = 0.0, 1.0
    for _ in range(40):
        rate = (low + high) / 2
        tokens = sum(rate ** i for i in range(window + 1))
        low, high = (rate, high) if tokens < length else (low, rate)
    return rate


def simulated(simulate, one_way_us, host_us, run):
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as out:
        command = [simulate, "--modes", run["mode"], "--device-profile", run["target"],
                   "--draft-device-profile", run["draft"], "--requests", "64", "--prompt-tokens", "32",
                   "--output-tokens", str(run["tokens"]), "--one-way-us", str(one_way_us),
                   "--host-us", str(host_us), "--json", out.name]
        if run["mode"] == "serial":
            command += ["--num-speculative-tokens", str(run["window"]),
                        "--acceptance", f"{acceptance_of(run['length'], run['window']):.4f}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        figure = json.loads(open(out.name, encoding="utf-8").read())["figures"][0]
    return 1000 * figure["tokens_per_round"] / figure["request_tokens_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulate", required=True)
    parser.add_argument("--results", default="docs/results/rounds.jsonl")
    parser.add_argument("--one-way-us", type=float, default=150)
    parser.add_argument("--host-us", type=float, default=50)
    arguments = parser.parse_args()
    print("| paced run | mode | measured round, ms | simulated, ms | difference |")
    print("|---|---|---|---|---|")
    differences = []
    for run in measured(arguments.results):
        ms = simulated(arguments.simulate, arguments.one_way_us, arguments.host_us, run)
        differences.append(ms / run["ms"] - 1)
        mode = run["mode"] if run["mode"] == "off" else f"serial {run['window']}"
        print(f"| {run['what'].split(' (')[0]} | {mode} | {run['ms']:.2f} [{run['low']:.2f}, {run['high']:.2f}] "
              f"| {ms:.2f} | {100 * differences[-1]:+.1f} % |")
    differences.sort(key=abs)
    print(f"\n{len(differences)} runs; the median differs by {100 * abs(differences[len(differences) // 2]):.1f} %",
          file=sys.stderr)


if __name__ == "__main__":
    main()
