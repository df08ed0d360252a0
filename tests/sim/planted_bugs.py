#!/usr/bin/env python3
"""Plants one bug after the other into a copy of the scheduler core and shows how many schedules the
simulation takes to find it: with the core's own invariants checked, and with the oracle alone.

  planted_bugs.py [--build DIR] [--tries N] [--limit SEEDS] [--only NAME] [--no-build]

DIR is a configured tree in which core_sim is built (default build/release). A bug whose text is no longer
in the core, or that is not found within the limit, fails the run.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORE = "scheduler/core"

# name, kind, file, what stands there, what stands there instead
BUGS = [
    ("no fence at all", "fence", "reports.cc",
     "worker == nullptr || event.fence != worker->fence", "worker == nullptr"),
    ("the fence's epoch is not looked at", "fence", "reports.cc",
     "event.fence != worker->fence", "event.fence.incarnation != worker->fence.incarnation"),
    ("the fence's incarnation is not looked at", "fence", "reports.cc",
     "event.fence != worker->fence", "event.fence.scheduler_epoch != worker->fence.scheduler_epoch"),
    ("an outcome of an earlier round is taken", "fence", "reports.cc",
     """void Machine::HandleVerifyItem(Worker* worker, const VerifyItemReport& report) {
  if (!worker->round.has_value() || report.round_id != worker->round->id) {""",
     """void Machine::HandleVerifyItem(Worker* worker, const VerifyItemReport& report) {
  if (!worker->round.has_value() || report.round_id > worker->round->id) {"""),
    ("an exit of an earlier round is taken", "fence", "reports.cc",
     """void Machine::HandleExitItem(Worker* worker, const EarlyExitItemReport& report) {
  if (!worker->round.has_value() || report.round_id != worker->round->id) {""",
     """void Machine::HandleExitItem(Worker* worker, const EarlyExitItemReport& report) {
  if (!worker->round.has_value() || report.round_id > worker->round->id) {"""),
    ("a stale tree's tokens are taken", "fence", "reports.cc",
     "if (tree.round_id != report.round_id) {", "if (tree.round_id < report.round_id) {"),
    ("a stale tree's window is taken", "fence", "windows.cc",
     "if (sequence->decided_round == 0 || tree.round_id != sequence->decided_round) return nullptr;",
     "if (sequence->decided_round == 0) return nullptr;"),
    ("a branch of any row is the outcome's", "branch", "windows.cc",
     "return tree.Find(sequence->decided_accepted, sequence->tokens.back());",
     "return tree.Find(tree.Find(0, sequence->tokens.back()) != nullptr ? 0 : sequence->decided_accepted,"
     " sequence->tokens.back());"),
    ("the exit's branches have a budget of their own", "branch", "branching.cc",
     "KeepMostLikely(config_.branch_budget - round.num_branches, &options_);",
     "KeepMostLikely(config_.branch_budget, &options_);"),
    ("a draft may name roots without end", "branch", "reports.cc",
     "    --tree.own_roots[row];\n", ""),
    ("branches beyond the request's end", "branch", "branching.cc",
     "if (std::find(ends.begin(), ends.end(), *option.root.token) != ends.end()) return true;", ""),
    ("the drafted token is believed a candidate", "lie", "reports.cc",
     "if (row < item.window.size() && candidate.token == item.window[row]) {", "if (false) {"),
    ("an exit of too many candidates is believed", "lie", "reports.cc",
     "static_cast<int32_t>(rows[row].candidates.size()) > item.branch_top_k", "false"),
    ("a hit is counted once more", "statistics", "rounds.cc",
     "    ++stats.branch_hits;\n", "    stats.branch_hits += item.depth > 2 ? 2 : 1;\n"),
    ("a closed lease keeps its blocks", "leak", "ends.cc",
     "  if (worker->is_verifier()) worker->ledger.Close(found->second.kv);\n", ""),
    ("a window's rejected blocks are kept", "leak", "rounds.cc",
     "  verifier->ledger.Rest(&sequence->kv, sequence->committed_length());\n", ""),
    ("a window's blocks are not counted", "leak", "rounds.cc",
     "    ledger.Grow(&sequence->kv, item.committed_length + size);\n", ""),
    ("an ended sequence stays at its draft", "leak", "ends.cc",
     "  LeaveDraft(sequence, /*tell=*/true);\n  for (const Wait",
     "  LeaveDraft(sequence, /*tell=*/false);\n  for (const Wait"),
    ("the client's deadline is forgotten", "deadline", "admission.cc",
     "deadlines_.Set(Wait::kRequestDeadline, sequence->ordinal, now_ + *request.deadline);", ";"),
    ("the queue's time limit is forgotten", "deadline", "admission.cc",
     "  deadlines_.Set(Wait::kVerifier, sequence->ordinal, now_ + config_.queue_timeout);\n", ""),
    ("the loss timeout is forgotten", "deadline", "resume.cc",
     """  sequence->numerics_id = bound ? numerics_id : "";
  deadlines_.Set(Wait::kVerifier, sequence->ordinal, now_ + config_.verifier_loss_timeout);""",
     """  sequence->numerics_id = bound ? numerics_id : "";"""),
    ("a round's time limit is forgotten", "deadline", "rounds.cc",
     "  deadlines_.Set(Wait::kRound, verifier->fence.incarnation, now_ + RoundLimit(round));\n", ""),
    ("the wait for windows has no end", "deadline", "rounds.cc",
     "  deadlines_.Set(Wait::kDraftWindows, id, until);\n  return true;",
     "  deadlines_.Set(Wait::kDraftWindows, id, absl::InfiniteFuture());\n  return true;"),
    ("a silent worker is noticed once", "deadline", "fleet.cc",
     """  deadlines_.Set(Wait::kWorkerSilent, worker->fence.incarnation,
                 worker->heard_at + config_.worker_timeout);""", ""),
    ("a start that never comes is waited for", "deadline", "admission.cc",
     "  deadlines_.Set(Wait::kSequenceStarted, sequence->ordinal, now_ + config_.min_round_timeout);\n", ""),
    ("an end that never comes is waited for", "deadline", "ends.cc",
     "  deadlines_.Set(Wait::kSequenceEnded, id, now_ + config_.end_timeout);\n", ""),
    ("an outcome counts twice", "double commit", "reports.cc",
     "  item->done = true;\n  ++worker->round->num_done;",
     "  if (!item->done) ++worker->round->num_done;\n  item->done = report.item.error.has_value();"),
    ("tokens behind the end are kept", "double commit", "commit.cc",
     "      cut.finish = FinishReason::kStop;\n      return cut;", "      cut.finish = FinishReason::kStop;"),
    ("a resumed request repeats its last token", "double commit", "rounds.cc",
     "committed.output_index = sequence->num_output_tokens();",
     "committed.output_index = sequence->num_output_tokens() - (sequence->stats.resumes > 0 ? 1 : 0);"),
    ("a resumed request goes to any numerics", "resume", "resume.cc",
     "const bool bound = sequence->num_output_tokens() > 0 && !config_.allow_other_numerics;",
     "const bool bound = false;"),
    ("a cancel while starting is lost", "cancel", "ends.cc",
     "  Sequence* sequence = found->second;\n  ++counters_.requests_cancelled;",
     "  Sequence* sequence = found->second;\n  if (sequence->stage == Stage::kStarting) return;\n"
     "  ++counters_.requests_cancelled;"),
    ("the oldest is preempted", "preemption", "preemption.cc",
     """  for (auto entry = verifier.live.rbegin(); entry != verifier.live.rend(); ++entry) {
    Sequence* sequence = entry->second;
    if (entry->first == verifier.live.begin()->first) return nullptr;""",
     """  for (auto entry = verifier.live.begin(); entry != verifier.live.end(); ++entry) {
    Sequence* sequence = entry->second;
    if (verifier.live.size() < 2) return nullptr;"""),
    ("nobody is ever preempted", "preemption", "preemption.cc",
     "  if (verifier->live.empty()) return;", "  return;"),
    ("newcomers overtake", "starvation", "admission.cc",
     "      Claim(*sequence);\n", ""),
    ("the queue has no bound", "bound", "admission.cc",
     "if (num_queued_new_ >= config_.max_queued &&", "if (num_queued_new_ >= 1000000 &&"),
    ("one accepted token too many is believed", "lie", "reports.cc",
     "done.num_accepted > window_size) {", "done.num_accepted > window_size + 100) {"),
    ("a draining worker gets new sequences", "drain", "admission.cc",
     "  if (verifier.draining && sequence.last_incarnation != verifier.fence.incarnation) return false;\n", ""),
    ("a lost draft is not told as degraded", "degraded", "fleet.cc",
     "      SetDegraded(DegradedReason::kDraftLost, true);\n", ""),
]

def commands(build):
    out = subprocess.run(["ninja", "-C", str(build), "-t", "commands", "core_sim"], check=True,
                         capture_output=True, text=True).stdout
    return [line for line in out.splitlines() if line.strip()]


def change(folder, file, old, new):
    path = folder / CORE / file
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"planted_bugs.py: in {file} this stands {text.count(old)} times, not once:\n{old}")
    path.write_text(text.replace(old, new))


def make(build, lines, bug):
    """Returns a folder with a core_sim that has the bug."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="planted-"))
    shutil.copytree(ROOT / CORE, folder / CORE)
    change(folder, *bug[2:])
    source = f"{CORE}/{bug[2]}"
    compile_line = next(line for line in lines if re.search(rf" -c \S*/{source}$", line))
    compile_line = re.sub(r" -o \S+", f" -o {folder}/bug.o", compile_line)
    compile_line = re.sub(r" -MD -MT \S+ -MF \S+", "", compile_line)
    compile_line = re.sub(r" -c \S+$", f" -c {folder}/{source}", compile_line)
    compile_line = re.sub(r" -I", f" -I{folder} -I", compile_line, count=1)
    compile_line = compile_line.replace("-Werror", "-w").replace("-O3", "-O1")
    # What is named before the libraries is taken, and the library's own object is not.
    link_line = re.sub(r" -o \S+", f" -o {folder}/core_sim {folder}/bug.o", lines[-1])
    for line in (compile_line, link_line):
        if subprocess.run(line, shell=True, cwd=build).returncode != 0:
            sys.exit(f"planted_bugs.py: does not build: {bug[0]}")
    return folder


def seeds_until_found(folder, first, limit, more):
    run = subprocess.run(
        [str(folder / "core_sim"), "--seeds", str(limit), "--first", str(first), "--processes", "1",
         "--max-failures", "1", "--no-minimise", "--no-table", *more],
        capture_output=True, text=True)
    match = re.search(r"^seed (\d+): (.*)$", run.stdout, re.M)
    if not match:
        return None, "not found"
    return int(match.group(1)) - first + 1, match.group(2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=str(ROOT / "build/release"))
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--only", default="", help="bugs whose name has this in it")
    parser.add_argument("--no-build", action="store_true", help="core_sim is as new as the core")
    arguments = parser.parse_args()
    build = pathlib.Path(arguments.build).resolve()
    if not arguments.no_build:
        subprocess.run(["ninja", "-C", str(build), "core_sim"], check=True, stdout=subprocess.DEVNULL)
    lines = commands(build)
    missed = 0
    print("kind | bug | seeds until found | without the core's invariants | what was seen then")
    print("---|---|---|---|---", flush=True)
    for bug in BUGS:
        if arguments.only not in bug[0]:
            continue
        row = []
        seen = ""
        folder = make(build, lines, bug)
        for more in ([], ["--no-invariants"]):
            found = []
            for attempt in range(arguments.tries):
                num, what = seeds_until_found(folder, 1 + attempt * 1000000, arguments.limit, more)
                found.append(num)
                seen = what
            missed += found.count(None)
            row.append(", ".join("-" if num is None else str(num) for num in found))
        shutil.rmtree(folder)
        print(f"{bug[1]} | {bug[0]} | {row[0]} | {row[1]} | {seen[:90]}", flush=True)
    print(f"{missed} times not found within {arguments.limit} seeds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
