"""Sweeps of the simulator: which mode and window is best where, and the paper's Table 1. Python 3, no packages.

  python3 tools/simulate/sweep.py grid --simulate build/release/bin/mirrorsd-simulate --json grid.jsonl
  python3 tools/simulate/sweep.py table1 --simulate build/release/bin/mirrorsd-simulate

`grid` runs every fixed setting at every point of acceptance x exit recall x batch x devices, prints for each
point plain decoding's speed, the best fixed setting of each mode as a ratio to it, and, with --auto, how
far that mode stays behind plain decoding and behind the best. `table1` fits one acceptance per row of Table 1
of arXiv 2510.13161 so that serial speculation at window 7 is as fast as the paper's Vanilla-SD, and
simulates mirror at the same acceptance. With --streams 2 a pass of the draft yields two tokens, as the paper's
does (its Speculative Streaming at batch 1 and 8).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

DEVICES = {
    "paper": ("mirror-sd-target-qwen3-14b", "mirror-sd-draft-qwen3-0.6b"),
    "70b": ("8xh100-llama-3.3-70b", "h100-llama-3.2-1b"),
    "14b": ("h100-qwen3-14b", "npu-qwen3-0.6b"),
    "8b": ("h100-llama-3.1-8b", "npu-llama-3.2-1b"),
}
# (given a reject, of all rows)
RECALLS = {
    "low": ("1:0.2,4:0.4,8:0.5", "1:0.5,4:0.7,8:0.75"),
    "middle": ("1:0.5,4:0.75,8:0.85", "1:0.75,4:0.93,8:0.96"),
    "high": ("1:0.8,4:0.95,8:0.98", "1:0.9,4:0.98,8:0.99"),
}
# Vanilla-SD and Mirror-SD of Table 1: (model, task, vanilla, mirror), greedy.
TABLE_1 = [
    ("Qwen3-14B", "Translation", 2.34, 4.13), ("Qwen3-14B", "Summarization", 1.76, 3.07),
    ("Qwen3-14B", "Question Answering", 1.81, 3.18), ("Qwen3-14B", "Mathematical Reasoning", 2.80, 5.32),
    ("Qwen3-14B", "Retrieval Aug. Generation", 2.02, 3.49),
    ("Qwen3-14B", "Multi-turn Conversation", 2.07, 3.70),
]


class Simulator:
    def __init__(self, program):
        self.program = program
        self.runs = 0

    def run(self, modes, **options):
        handle, path = tempfile.mkstemp(suffix=".jsonl")
        os.close(handle)
        command = [self.program, "--modes", ",".join(modes), "--json", path]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        try:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            with open(path, encoding="utf-8") as lines:
                figures = json.loads(lines.read())["figures"]
        finally:
            os.unlink(path)
        self.runs += 1
        return {figure["mode"]: figure for figure in figures}


def grid(simulator, arguments):
    lists = {name: value.split(",") for name, value in vars(arguments).items()
             if name in ("devices", "acceptances", "recalls", "batches", "windows", "modes")}
    out = open(arguments.json, "a", encoding="utf-8") if arguments.json else None
    modes = [mode for mode in lists["modes"] if mode != "off"]
    extra = ["auto", "auto / best"] if arguments.auto else []
    head = ["devices", "acceptance", "exit recall", "batch", "plain, tokens/s"] + modes + ["best"] + extra
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for device in lists["devices"]:
        for recall in lists["recalls"]:
            for batch in map(int, lists["batches"]):
                for acceptance in lists["acceptances"]:
                    point(simulator, arguments, device, recall, batch, acceptance, modes, lists["windows"], out)


def point(simulator, arguments, device, recall, batch, acceptance, modes, windows, out):
    target, draft = DEVICES[device]
    common = {"device_profile": target, "draft_device_profile": draft, "acceptance": acceptance,
              "exit_recall_given_reject": RECALLS[recall][0], "exit_recall": RECALLS[recall][1],
              "concurrency": batch, "requests": 2 * batch if batch > 2 else 4, "prompt_tokens": 64,
              "output_tokens": arguments.output_tokens, "branch_budget": max(16, 8 * batch), "jitter": "off"}
    plain = simulator.run(["off"], **common)["off"]["request_tokens_per_second"]
    best = {}
    for window in windows:
        found = simulator.run(modes, num_speculative_tokens=window, **common)
        for mode, figure in found.items():
            speed = figure["request_tokens_per_second"]
            if mode not in best or speed > best[mode][0]:
                best[mode] = (speed, window)
            if out:
                out.write(json.dumps({"devices": device, "acceptance": float(acceptance), "recall": recall,
                                      "batch": batch, "window": int(window), "plain": plain, **figure}) + "\n")
    winner = max(best, key=lambda mode: best[mode][0])
    fastest = max(best[winner][0], plain)
    cells = [f"{best[mode][0] / plain:.2f} ({best[mode][1]})" for mode in modes]
    cells.append("off" if plain >= best[winner][0] else f"{winner} {best[winner][1]}")
    if arguments.auto:
        auto = simulator.run(["auto"], **common)["auto"]["request_tokens_per_second"]
        cells += [f"{auto / plain:.3f}", f"{auto / fastest:.3f}"]
    print("| " + " | ".join([device, str(acceptance), recall, str(batch), f"{plain * batch:.0f}"] + cells) + " |",
          flush=True)


def streams_profile(name, streams):
    """A draft of Speculative Streaming that yields `streams` tokens a pass: each token takes that share of one."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(root, "profiles", name + ".json"), encoding="utf-8") as file:
        profile = json.load(file)
    for table in ("layer", "head"):
        profile[table] = [[rows, seconds / streams] for rows, seconds in profile[table]]
    profile["pass_s"] /= streams
    profile["name"] = f"{name}-{streams}-streams"
    handle, path = tempfile.mkstemp(suffix=".json")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(profile, file)
    return path


def table1(simulator, arguments):
    print("| task | Vanilla-SD | acceptance that fits | serial | mirror 7 | Mirror-SD | ordering |")
    print("|---|---|---|---|---|---|---|")
    target, draft = DEVICES["paper"]
    common = {"device_profile": target, "draft_device_profile": streams_profile(draft, arguments.streams),
              "jitter": "off", "num_speculative_tokens": 7, "branch_top_k": 8, "requests": 4,
              "output_tokens": arguments.output_tokens}
    plain = simulator.run(["off"], **common)["off"]["request_tokens_per_second"]

    def speed(mode, acceptance):
        return simulator.run([mode], acceptance=f"{acceptance:.4f}", **common)[mode]["request_tokens_per_second"]

    for model, task, vanilla, mirror in TABLE_1:
        low, high = 0.0, 0.995
        for _ in range(9):
            middle = (low + high) / 2
            low, high = (middle, high) if speed("serial", middle) / plain < vanilla else (low, middle)
        serial, mirrored = speed("serial", high) / plain, speed("mirror", high) / plain
        ordering = "plain < serial < mirror" if 1 < serial < mirrored else "another"
        note = "" if abs(serial - vanilla) < 0.08 else " (as far as it goes)"
        print(f"| {model}, {task} | {vanilla:.2f} | {high:.2f}{note} | {serial:.2f} | {mirrored:.2f} "
              f"| {mirror:.2f} | {ordering} |", flush=True)
    os.unlink(common["draft_device_profile"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("grid", "table1"):
        command = commands.add_parser(name)
        command.add_argument("--simulate", required=True, help="the program")
        command.add_argument("--output-tokens", type=int, default=500 if name == "table1" else 200)
        if name == "table1":
            command.add_argument("--streams", type=int, default=1, help="tokens that the draft yields a pass")
            continue
        command.add_argument("--devices", default="paper,70b,14b")
        command.add_argument("--acceptances", default="0,0.3,0.6,0.8,0.95")
        command.add_argument("--recalls", default="low,high")
        command.add_argument("--batches", default="1,4,16,64")
        command.add_argument("--windows", default="2,4,8")
        command.add_argument("--modes", default="serial,mirror")
        command.add_argument("--auto", action="store_true", help="judge the mode `auto` too")
        command.add_argument("--json", help="append every run to this file")
    arguments = parser.parse_args()
    simulator = Simulator(arguments.simulate)
    {"grid": grid, "table1": table1}[arguments.command](simulator, arguments)
    print(f"{simulator.runs} simulations", file=sys.stderr)


if __name__ == "__main__":
    main()
