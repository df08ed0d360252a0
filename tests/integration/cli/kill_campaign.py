#!/usr/bin/env python3
"""Kills, stops and restarts the processes of a cell in seeded random order, under load, and looks at what comes of it.

    MIRRORSD_BIN=build/release/bin python3 tests/integration/cli/kill_campaign.py --minutes 10 --seed 1 --streams 32

What must hold: every request ends within its bound, with the tokens of the undisturbed run (load.py); no process ends
by itself; where a draft is lost, /metrics say DEGRADED, and say so no more once all are back. About once a
minute the load pauses: then the cell is whole again, drafts again, holds no block and no sequence, and has grown
neither in memory nor in threads nor in open files. Progress is a line per fault; the end is a table.
Exit code 0: nothing was violated.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time

import network
from cell_processes import GATEWAY, SCHEDULER, Cell, monotonic
from load import Load, make_requests, undisturbed

TARGET, DRAFT = "models/demo-target", "models/demo-draft"
KILL, STOP, HANG, RESTART = "kill", "stop", "hang", "restart"
KINDS = (KILL, STOP, HANG, RESTART)
CUT, SILENCE = "cut", "silence"  # of the host that a process is on, where it has one of its own
SEEN_S = 20       # until a lost draft shows as DEGRADED, beyond the worker's timeout
YOUNG_S = 2       # after its start, on a busy machine, a program may not have got to its main
QUIET_S = 180     # until a paused load has its last answer
SETTLED_S = 60    # until blocks and gauges say so
# Growth from a life's second quiet moment on, when pools and caches have their size. Per process.
MOST_RSS_GROWTH_MB, MOST_THREADS_GROWTH, MOST_FILES_GROWTH = 24, 16, 12
MOST_RING_MB = 48  # the scheduler's ring of its last events, 32 MiB of them, fills for some minutes


def say(*words):
    print(time.strftime("%H:%M:%S", time.gmtime()), *words, flush=True)


class Campaign:
    def __init__(self, cell, load, seed, targets=None, kinds=KINDS):
        self.cell, self.load = cell, load
        self.rng = random.Random(seed)
        self.targets = targets or list(cell.processes)
        self.kinds = kinds
        self.absences_s = (0, 2, 8)  # at most; of a process that was killed
        self.long_hang_share = 0.1
        self.spared = set()         # names that are stopped but never ended
        self.lock = threading.Lock()
        self.under_fault = set()    # names
        self.faults = collections.Counter()
        self.history = []           # (kind, name, begun_at, ended_at)
        self.violations = []
        self.degraded = collections.Counter()
        self.samples = collections.defaultdict(list)  # (name, life) -> [usage]
        self.preemptions = {}       # of each life of the scheduler, as last seen
        self.checkpoints = 0
        self.enough = threading.Event()
        self.over = threading.Event()
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()

    # --- faults ---

    def violate(self, message):
        say("VIOLATION:", message)
        self.violations.append(message)

    def choose(self):
        """A kind and a process that is well; none while two are under a fault already."""
        with self.lock:
            free = [name for name in self.targets if name not in self.under_fault]
            if len(self.under_fault) >= 2 or not free:
                return None
            # A scheduler or gateway that stands still leaves nothing to disturb: workers twice as often.
            name = self.rng.choice(free + [name for name in free if "worker" in name])
            kinds = [kind for kind in (*self.kinds, *self.kinds[:1])
                     if name not in self.spared or kind not in (KILL, RESTART)]
            if not kinds:
                return None
            kind = self.rng.choice(kinds)
            self.under_fault.add(name)
            return kind, name

    def inflict(self, kind, name):
        """From the fault to the moment its process is well again. `name` is in under_fault."""
        process = self.cell[name]
        begun = monotonic()
        try:
            {KILL: self._kill, STOP: self._stop, HANG: self._hang, RESTART: self._restart,
             CUT: self._cut, SILENCE: self._silence}[kind](process)
        except Exception as error:  # told like what the cell did wrong
            self.violate(f"{kind} of {name}: {error!r}")
        ended = monotonic()
        with self.lock:
            self.under_fault.discard(name)
            self.faults[kind, process.role] += 1
            self.history.append((kind, name, begun, ended))
        say(f"{kind:8}{name:18}{ended - begun:5.1f} s   {self.state()}")

    def _kill(self, process):
        is_ready = self._draft_is_attached(process)
        process.kill()
        if is_ready:
            self._expect_degraded(process)
        time.sleep(self.rng.uniform(0, self.rng.choice(self.absences_s)))
        process.start()

    def _stop(self, process):
        """Too short to be noticed as a loss."""
        process.signal(signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.05, 0.5) * self.cell.worker_timeout_s)
        process.signal(signal.SIGCONT)

    def _hang(self, process):
        """Long enough to be taken for dead; then it goes on as if nothing had been."""
        is_ready = self._draft_is_attached(process)
        process.signal(signal.SIGSTOP)
        begun = monotonic()
        if is_ready:
            self._expect_degraded(process)
        # Sometimes beyond the keepalive of the connections, too, which is 20 s.
        least = (23 if self.rng.random() < self.long_hang_share else
                 self.cell.worker_timeout_s * self.rng.uniform(1.3, 2))
        time.sleep(max(0, begun + least - monotonic()))
        process.signal(signal.SIGCONT)

    def _restart(self, process):
        is_young = process.age_s() < YOUNG_S
        code = process.terminate(timeout=self.cell.drain_timeout_s + 30)
        # Before its main has begun the signal is the kernel's, and kills.
        if code != 0 and not (is_young and code == -signal.SIGTERM):
            self.violate(f"{process.name} ended with {code} on SIGTERM:\n{process.log_tail()}")
        time.sleep(self.rng.uniform(0, 2))
        process.start()

    def _cut(self, process):
        """Its host's cable is pulled, and put back."""
        process.host.cut()
        self._wait_apart(process)
        process.host.join()

    def _silence(self, process):
        """Nothing comes or goes any more, and no connection is closed."""
        process.host.silence()
        self._wait_apart(process)
        process.host.hear()

    def _wait_apart(self, process):
        """A moment, longer than the worker timeout, or longer than connections live without an answer."""
        must_show = self._draft_is_attached(process) and self.rng.random() < 0.5
        begun = monotonic()
        if must_show:
            self._expect_degraded(process)
        longest = 25 if self.rng.random() < self.long_hang_share else 2 * self.cell.worker_timeout_s
        time.sleep(max(0, begun + self.rng.uniform(0.1, longest) - monotonic()))

    def _scheduler_is_well(self):
        return SCHEDULER not in self.under_fault

    def _draft_is_attached(self, process):
        """Whether the loss of this process must show: a draft, and none is missing by the scheduler's word."""
        if process.role != "draft-worker" or not self._scheduler_is_well():
            return False
        return (process.fetch("/readyz")[0] == 200 and
                self.cell[SCHEDULER].metric("workers_attached", role="draft") ==
                len(self.cell.workers("draft-worker")))

    def _expect_degraded(self, process):
        lives = self.cell[SCHEDULER].num_lives
        end = monotonic() + self.cell.worker_timeout_s + SEEN_S
        while monotonic() < end:
            if not self._scheduler_is_well() or self.cell[SCHEDULER].num_lives != lives:
                self.degraded["not judged: the scheduler had a fault, too"] += 1
                return
            if self.cell[SCHEDULER].metric("speculation_degraded", reason="draft_lost") == 1:
                self.degraded["seen"] += 1
                return
            time.sleep(0.05)
        self.violate(f"{process.name} is gone and DEGRADED was not seen")

    def _watch(self):
        """Nobody may end unless this campaign made it."""
        while not self.over.wait(0.5):
            for process in self.cell.processes.values():
                code = process.died()
                if code is not None and process.name not in self.under_fault:
                    process.expected_to_live = False
                    self.violate(f"{process.name} ended by itself with {code}:\n{process.log_tail()}")

    # --- quiet moments ---

    def state(self):
        counts = self.load.counts
        return (f"started {counts['started']} finished {counts['finished']} resumed "
                f"{counts['resumed']} retried {counts['retried']} live {len(self.load.live)} wrong "
                f"{counts['violation_wrong']}")

    def checkpoint(self):
        """With no fault under way: all requests end, and the cell is as new."""
        begun = monotonic()
        if not self.load.pause(QUIET_S):
            with self.load.lock:
                self.violate(f"no end within {QUIET_S} s: {list(self.load.live.items())[:3]}")
            return
        quiet = monotonic()
        self._eventually("a whole cell", self.cell.is_whole)
        self._eventually("blocks and sequences all returned", self._holds_nothing)
        self._eventually("the end of DEGRADED", self._drafts_again)
        self._eventually("blocks all returned after drafting", self._holds_nothing)
        for process in self.cell.processes.values():
            self.samples[process.name, process.num_lives].append(process.usage())
        self.preemptions[self.cell[SCHEDULER].num_lives] = self.cell[SCHEDULER].metric(
            "num_preemptions_total") or 0
        self.checkpoints += 1
        say(f"quiet   after {quiet - begun:.1f} s, well after {monotonic() - quiet:.1f} s more; "
            f"{self.checkpoints} such; MB {self._sizes()}")

    def _sizes(self):
        return " ".join(f"{name}={self.samples[name, process.num_lives][-1]['rss_mb']:.0f}"
                        for name, process in self.cell.processes.items())

    def _eventually(self, what, condition):
        end = monotonic() + SETTLED_S
        while not condition():
            if monotonic() > end:
                return self.violate(f"waited {SETTLED_S} s in vain for {what}; {self._gauges()}")
            time.sleep(0.1)

    def _gauges(self):
        names = ("kv_cache_usage_ratio", "worker_sequences", "num_requests_running",
                 "num_requests_waiting", "speculation_degraded", "workers_attached", "streams_open")
        return {name: {gauge: metrics[gauge] for gauge in names if gauge in metrics}
                for name, metrics in ((process.name, process.metrics())
                                      for process in self.cell.processes.values())}

    def _holds_nothing(self):
        for process in self.cell.processes.values():
            metrics = process.metrics()
            if not metrics:
                return False
            for gauge in ("kv_cache_usage_ratio", "worker_sequences", "num_requests_running",
                          "num_requests_waiting", "streams_open"):
                if sum(metrics.get(gauge, {}).values()) != 0:
                    return False
        return True

    def _drafts_again(self):
        """A late draft proves itself by drafting, so there must be something to draft."""
        before = self.load.counts["accepted_tokens"]
        self.load.resume()
        time.sleep(0.3)
        self.load.pause(QUIET_S)
        return (self.load.counts["accepted_tokens"] > before and
                self.cell[SCHEDULER].metric("speculation_degraded") == 0)

    # --- the whole ---

    def spare_long_lives(self):
        """From now on scheduler and gateway are stopped but never ended."""
        self.spared = {SCHEDULER, GATEWAY}

    def run(self, seconds, checkpoint_s=60, pause_s=(0.2, 5)):
        end = monotonic() + seconds
        while monotonic() < end and not self.enough.is_set():
            self.load.resume()
            stretch = min(end, monotonic() + checkpoint_s)
            self._stretch(stretch, pause_s)
            self.checkpoint()
            if len(self.violations) + len(self.load.violations) > 20:
                return say("too many violations: this run ends here")

    def stop_early(self):
        """The run ends with a last quiet moment and its figures."""
        say("stopping early; the figures follow")
        self.enough.set()

    def _stretch(self, until, pause_s):
        threads = []
        while monotonic() < until and not self.enough.is_set():
            chosen = self.choose()
            if chosen is not None:
                threads.append(threading.Thread(target=self.inflict, args=chosen, daemon=True))
                threads[-1].start()
            time.sleep(self.rng.uniform(*pause_s))
        for thread in threads:
            thread.join()

    def finish(self):
        self.over.set()
        self.watch.join()
        self.violations += self.load.violations
        self._judge_growth()

    def _judge_growth(self):
        for (name, life), samples in self.samples.items():
            growth = self.growth(samples)
            if growth is None:
                continue
            for key, most in (("rss_mb", MOST_RSS_GROWTH_MB), ("threads", MOST_THREADS_GROWTH),
                              ("files", MOST_FILES_GROWTH)):
                if key == "rss_mb" and name == SCHEDULER:
                    most += MOST_RING_MB
                if growth[key] > most:
                    self.violate(f"{name}, life {life}: {key} grew by {growth[key]:.0f} over "
                                 f"{len(samples)} quiet moments: "
                                 f"{[round(sample[key]) for sample in samples]}")

    @staticmethod
    def growth(samples):
        """From the second quiet moment to the last; none where there are too few."""
        if len(samples) < 3:
            return None
        return {key: samples[-1][key] - samples[1][key] for key in samples[0]}

    def longest_gaps(self, margin_s=2):
        """{kind and role, or "none": the longest time between two tokens of a stream while nothing else
        was wrong}, in seconds."""
        found = {}
        for begun, length in self.load.gaps:
            touching = [fault for fault in self.history
                        if fault[2] < begun + length and begun < fault[3] + margin_s]
            if len(touching) > 1:
                continue
            kind = (f"{touching[0][0]} {touching[0][1].rsplit('-', 1)[0]}"
                    if touching and touching[0][1][-1].isdigit()
                    else f"{touching[0][0]} {touching[0][1]}" if touching else "none")
            found[kind] = max(found.get(kind, 0), length)
        return dict(sorted(found.items()))

    def figures(self):
        counts = self.load.counts
        most = collections.defaultdict(lambda: {"rss_mb": 0, "threads": 0, "files": 0, "moments": 0})
        for (name, _), samples in self.samples.items():
            growth, role = self.growth(samples), self.cell[name].role
            if growth is not None:
                most[role] = {**{key: max(round(growth[key], 1), most[role][key])
                                 for key in growth},
                              "moments": max(len(samples), most[role]["moments"])}
        longest = {name: max((samples for (each, _), samples in self.samples.items()
                              if each == name), key=len) for name, _ in self.samples}
        return {
            "requests_started": counts["started"], "requests_finished": counts["finished"],
            "requests_resumed": counts["resumed"], "requests_cancelled": counts["cancelled"],
            "attempts_refused_and_retried": dict(self.load.retried),
            "tokens": counts["tokens"], "tokens_wrong": counts["violation_wrong"],
            "preemptions_seen": int(sum(self.preemptions.values())),
            "hung": counts["violation_hung"], "drafted": counts["drafted_tokens"],
            "accepted": counts["accepted_tokens"],
            "faults": {f"{kind} {role}": count
                       for (kind, role), count in sorted(self.faults.items())},
            "faults_in_all": sum(self.faults.values()), "quiet_moments": self.checkpoints,
            "degraded": dict(self.degraded),
            "longest_gap_s": {kind: round(length, 2)
                              for kind, length in self.longest_gaps().items()},
            "growth_from_second_to_last_moment": dict(most),
            "rss_mb_over_the_longest_life": {
                name: [round(sample["rss_mb"]) for sample in samples[::max(1, len(samples) // 6)]]
                for name, samples in sorted(longest.items())},
            "violations": len(self.violations)}


def print_table(campaign):
    print("\n--- figures ---")
    for key, value in campaign.figures().items():
        if isinstance(value, dict):
            print(f"{key}:")
            for each, count in value.items():
                print(f"    {each:40} {count}")
        else:
            print(f"{key:44} {value}")
    for violation in campaign.violations:
        print("VIOLATION:", violation)
    print(json.dumps(campaign.figures()))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--requests", type=int, default=120, help="different ones")
    parser.add_argument("--worker-timeout-s", type=int, default=5)
    parser.add_argument("--checkpoint-s", type=float, default=60)
    parser.add_argument("--kv-mb", type=int, default=16, help="of a verifier; few make it preempt")
    parser.add_argument("--gap-s", type=float, default=0.25, help="shorter gaps are not looked at")
    parser.add_argument("--targets", nargs="*", help="names of processes, e.g. draft-worker-0")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--hosts", action="store_true",
                        help="each worker on a host of its own (network.py), which may be cut off, too")
    parser.add_argument("--spare-after", type=float, default=0.5, metavar="SHARE",
                        help="of the time; from then on scheduler and gateway are stopped, never "
                        "ended, so that their memory is seen over a long life")
    parser.add_argument("--logs", help="folder of the processes' logs (unset: a temporary one)")
    return parser.parse_args()


@contextlib.contextmanager
def hosts_of_their_own():
    """For each process, the clients beside their gateway; on links that are good, not perfect."""
    workers = [f"{role}-worker-{index}" for role in ("verifier", "draft") for index in range(2)]
    with network.Network(["front", SCHEDULER, *workers]) as net:
        net.link("*", "*", delay_ms=0.5, jitter_ms=0.3, loss=0.002)
        yield net.hosts


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with all that was started
    arguments = parse()
    if arguments.hosts:
        network.isolate()
        arguments.kinds += (CUT, SILENCE)
    say(f"seed {arguments.seed}, {arguments.minutes} minutes, {arguments.streams} streams")
    requests = make_requests(arguments.requests, arguments.seed)
    answers = undisturbed(requests, TARGET)
    say(f"{len(answers)} requests answered undisturbed")
    with contextlib.ExitStack() as stack:
        logs = arguments.logs or stack.enter_context(tempfile.TemporaryDirectory())
        os.makedirs(logs, exist_ok=True)
        hosts = stack.enter_context(hosts_of_their_own()) if arguments.hosts else None
        cell = stack.enter_context(Cell(logs, TARGET, DRAFT, hosts=hosts,
                                        worker_timeout_s=arguments.worker_timeout_s,
                                        target_kv_mb=arguments.kv_mb))
        load = Load(cell.grpc, requests, answers, arguments.streams, arguments.seed,
                    gap_s=arguments.gap_s, prefix=cell[GATEWAY].host.prefix)
        campaign = Campaign(cell, load, arguments.seed, arguments.targets, arguments.kinds)
        signal.signal(signal.SIGINT, lambda *_: campaign.stop_early())
        seconds = arguments.minutes * 60
        campaign.run(seconds * arguments.spare_after, arguments.checkpoint_s)
        campaign.spare_long_lives()
        campaign.run(seconds * (1 - arguments.spare_after), arguments.checkpoint_s)
        load.close()
        campaign.finish()
        print_table(campaign)
    sys.exit(1 if campaign.violations else 0)


if __name__ == "__main__":
    main()
