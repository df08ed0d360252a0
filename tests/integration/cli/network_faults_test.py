"""A cell over several hosts: delay, jitter and loss; partitions that are told and partitions that are not.

The hosts are network namespaces (network.py). Gateway, scheduler and clients are on "front", each worker on a host
of its own. Where the machine cannot have such hosts the test is skipped and says why. With --print it prints its
figures:

    MIRRORSD_BIN=build/release/bin python3 tests/integration/cli/network_faults_test.py --print
"""

import contextlib
import json
import sys
import tempfile
import time
import unittest

import network
from cell_processes import GATEWAY, SCHEDULER, Cell, monotonic
from kill_campaign import DRAFT, TARGET, Campaign
from load import Load, make_requests, undisturbed
from programs import wait_for

SEED, STREAMS, DIFFERENT_REQUESTS = 1, 8, 24
WORKER_TIMEOUT_S = 3
# Silence until both ends of a half-open connection must have noticed: a ping every 10 s, 10 s for its answer.
NOTICED_S = 20 + 15
BACK_S = 60  # from healing to a whole cell: retransmissions and dialling back off meanwhile
FIGURES = {}


class Stage:
    """Hosts, a cell on them, and a load in full flight."""

    def __init__(self, stack, num_verifiers, verifier_loss_timeout_s, scheduler_host):
        names = ["front", *(f"verifier{i}" for i in range(num_verifiers)), "draft"]
        if scheduler_host != "front":
            names.append(scheduler_host)
        self.network = stack.enter_context(network.Network(names, SEED))
        self.front, self.draft = self.network["front"], self.network["draft"]
        self.verifiers = [self.network[f"verifier{i}"] for i in range(num_verifiers)]
        logs = stack.enter_context(tempfile.TemporaryDirectory())
        self.cell = stack.enter_context(Cell(
            logs, TARGET, DRAFT, num_verifiers, 1, worker_timeout_s=WORKER_TIMEOUT_S,
            verifier_loss_timeout_s=verifier_loss_timeout_s,
            hosts={"front": self.front, SCHEDULER: self.network[scheduler_host],
                   "draft-worker-0": self.draft,
                   **{f"verifier-worker-{i}": host for i, host in enumerate(self.verifiers)}}))
        self.load = Load(self.cell.grpc, NetworkFaults.requests, NetworkFaults.answers, STREAMS,
                         SEED, gap_s=0.02, prefix=self.front.prefix)
        stack.callback(self.load.close)
        self.campaign = Campaign(self.cell, self.load, SEED)
        stack.callback(self.campaign.finish)
        self.load.resume()
        self.load.wait_for_tokens(200, timeout=60)

    def metric(self, name, **labels):
        return self.cell[SCHEDULER].metric(name, **labels)

    def wait_for_metric(self, value, name, timeout=BACK_S, **labels):
        wait_for(lambda: self.metric(name, **labels) == value, f"{name} {labels} to be {value}",
                 timeout=timeout, interval=0.05)

    def longest_gap(self, since):
        """Between two tokens of a stream, of the requests that have ended since."""
        return max((length for begun, length in self.load.gaps if begun + length > since),
                   default=0)

    def tokens_per_second(self, seconds):
        tokens, begun = self.load.counts["tokens"], monotonic()
        time.sleep(seconds)
        return (self.load.counts["tokens"] - tokens) / (monotonic() - begun)


class NetworkFaults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.requests = make_requests(DIFFERENT_REQUESTS, SEED, max_tokens=160)
        cls.answers = undisturbed(cls.requests, TARGET)

    def stage(self, num_verifiers=1, verifier_loss_timeout_s=30, scheduler_host="front"):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        return Stage(stack, num_verifiers, verifier_loss_timeout_s, scheduler_host)

    def check_well(self, stage):
        """All ends, the cell is as new and drafts, and nothing went wrong on the way."""
        stage.campaign.checkpoint()
        self.assertEqual(stage.campaign.violations + stage.load.violations, [])
        self.assertGreater(stage.load.counts["finished"], STREAMS)
        self.assertGreater(stage.load.counts["accepted_tokens"], 0)

    def figure(self, name, value):
        FIGURES[name] = round(value, 2)

    def test_delay_jitter_and_loss(self):
        stage = self.stage()
        self.figure("tokens_per_second_perfect_links", stage.tokens_per_second(4))
        stage.network.link("*", "*", delay_ms=12, jitter_ms=8, loss=0.01, reorder=0.01)
        before = stage.load.counts["accepted_tokens"]
        self.figure("tokens_per_second_12ms_8ms_1percent", stage.tokens_per_second(8))
        self.assertGreater(stage.load.counts["accepted_tokens"], before)
        self.assertGreater(stage.network.stats()["lost"], 0)
        # A draft that is suddenly far away misses its deadlines, and it is told.
        late = stage.metric("speculation_degraded_total", reason="draft_late")
        stage.network.link("front", "draft", delay_ms=400)
        wait_for(lambda: stage.metric("speculation_degraded_total", reason="draft_late") > late,
                 "DEGRADED: draft_late")
        self.figure("tokens_per_second_draft_400ms_away", stage.tokens_per_second(4))
        stage.network.link("*", "*")
        self.check_well(stage)

    def test_silent_draft_host(self):
        stage = self.stage()
        time.sleep(2)
        self.figure("longest_gap_s_before", stage.longest_gap(0))
        begun = monotonic()
        stage.draft.silence()
        stage.wait_for_metric(1, "speculation_degraded", reason="draft_lost", timeout=30)
        self.figure("draft_silent_until_degraded_s", monotonic() - begun)
        finished = stage.load.counts["finished"]
        wait_for(lambda: stage.load.counts["finished"] > finished + STREAMS, "rounds without a draft")
        # The worker's side of a connection that nobody has closed.
        wait_for(lambda: stage.cell["draft-worker-0"].fetch("/readyz")[0] == 503,
                 "the draft-worker to notice", timeout=NOTICED_S)
        self.figure("draft_silent_until_worker_noticed_s", monotonic() - begun)
        self.assertGreater(stage.draft.num_silenced(), 0)
        self.figure("longest_gap_s_over_draft_partition", stage.longest_gap(begun))
        self.assertEqual(stage.load.counts["retried"], 0, "a draft cannot fail a request")
        healed = monotonic()
        stage.draft.hear()
        stage.wait_for_metric(1, "workers_attached", role="draft", state="ready")
        self.figure("draft_back_after_healing_s", monotonic() - healed)
        self.check_well(stage)
        self.assertEqual(stage.load.counts["resumed"], 0)

    def test_silent_verifier_host_while_there_is_another(self):
        stage = self.stage(num_verifiers=2)
        begun = monotonic()
        stage.verifiers[0].silence()
        stage.wait_for_metric(1, "worker_lost_total", role="verifier", timeout=30)
        self.figure("verifier_silent_until_lost_s", monotonic() - begun)
        wait_for(lambda: stage.load.counts["resumed"] > 0, "requests to go on with the other")
        wait_for(lambda: stage.cell["verifier-worker-0"].fetch("/readyz")[0] == 503,
                 "the verifier-worker to notice", timeout=NOTICED_S)
        stage.verifiers[0].hear()
        self.check_well(stage)
        self.figure("longest_gap_s_over_verifier_partition", stage.longest_gap(begun))
        self.assertEqual(stage.load.counts["retried"], 0, "all could be resumed")

    def test_requests_are_held_until_their_verifiers_are_back(self):
        stage = self.stage(num_verifiers=2)
        for host in stage.verifiers:
            host.cut()
        stage.wait_for_metric(2, "worker_lost_total", role="verifier", timeout=30)
        finished = stage.load.counts["finished"]
        time.sleep(1)
        self.assertEqual(stage.load.counts["finished"], finished, "nobody is there to work")
        for host in stage.verifiers:
            host.join()
        wait_for(lambda: stage.load.counts["resumed"] > 0, "requests to go on", timeout=BACK_S)
        self.check_well(stage)
        self.assertEqual(stage.load.counts["retried"], 0)

    def test_scheduler_host_cut_from_its_workers(self):
        stage = self.stage(verifier_loss_timeout_s=5)
        stage.front.cut()
        # Beyond the time that requests are held: they end, and may be tried again.
        wait_for(lambda: stage.load.retried["UNAVAILABLE VERIFIER_LOST"] > 0,
                 "the end of patience", timeout=30)
        wait_for(lambda: all(stage.cell[name].fetch("/readyz")[0] == 503
                             for name in ("verifier-worker-0", "draft-worker-0")),
                 "the workers to notice", timeout=NOTICED_S)
        healed = monotonic()
        stage.front.join()
        wait_for(stage.cell.is_whole, "a whole cell", timeout=BACK_S)
        self.figure("whole_after_scheduler_host_joined_s", monotonic() - healed)
        self.check_well(stage)

    def test_silence_between_gateway_and_scheduler(self):
        stage = self.stage(scheduler_host="scheduler")
        begun = monotonic()
        stage.front.silence()
        wait_for(lambda: stage.cell[GATEWAY].fetch("/readyz")[0] == 503,
                 "the gateway to be not ready", timeout=NOTICED_S)
        self.figure("gateway_cut_off_until_not_ready_s", monotonic() - begun)
        wait_for(lambda: stage.load.counts["retried"] >= STREAMS, "the clients to be told",
                 timeout=NOTICED_S)
        self.figure("gateway_cut_off_until_clients_told_s", monotonic() - begun)
        # The scheduler's side: nobody listens any more, so nothing may go on.
        for gauge in ("num_requests_running", "kv_cache_usage_ratio"):
            stage.wait_for_metric(0, gauge, timeout=NOTICED_S)
        stage.front.hear()
        self.check_well(stage)


def main():
    network.isolate()
    show = "--print" in sys.argv
    done = unittest.main(argv=[word for word in sys.argv if word != "--print"], verbosity=2,
                         exit=False)
    if show:
        print(json.dumps(FIGURES))
    sys.exit(not done.result.wasSuccessful())


if __name__ == "__main__":
    main()
