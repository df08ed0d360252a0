"""The kill campaign in brief: every kind of fault to every role once, in an order of a fixed seed, under load."""

import random
import tempfile
import threading
import unittest

from cell_processes import Cell
from kill_campaign import DRAFT, HANG, KILL, KINDS, TARGET, Campaign, print_table
from load import Load, make_requests, undisturbed

SEED, STREAMS, DIFFERENT_REQUESTS = 4, 8, 24
WORKER_TIMEOUT_S = 3
ROLES = ("verifier-worker", "draft-worker", "scheduler", "gateway")


class KillCampaignTest(unittest.TestCase):
    def test_every_kind_of_fault_to_every_role(self):
        requests = make_requests(DIFFERENT_REQUESTS, SEED, max_tokens=160)
        answers = undisturbed(requests, TARGET)
        with tempfile.TemporaryDirectory() as logs, Cell(
                logs, TARGET, DRAFT, worker_timeout_s=WORKER_TIMEOUT_S, drain_timeout_s=3) as cell:
            load = Load(cell.grpc, requests, answers, STREAMS, SEED)
            campaign = Campaign(cell, load, SEED)
            campaign.absences_s = (0, 1)
            campaign.long_hang_share = 0
            plan = [(kind, role) for kind in KINDS for role in ROLES]
            # A worker that hangs is what the timeout is for; the others only stop for a while.
            plan = [(kind, role) for kind, role in plan if kind != HANG or "worker" in role]
            load.resume()
            for first, second in self.in_pairs(plan):
                cell.wait_until_whole()
                self.inflict_both(campaign, first, second)
            campaign.checkpoint()
            load.close()
            campaign.finish()
            print_table(campaign)
            self.assertEqual(campaign.violations, [])
            for kind, role in plan:
                self.assertEqual(campaign.faults[kind, role], 1, (kind, role))
            # Zeroes would mean that nothing was under way when the faults came.
            for what in ("finished", "resumed", "retried", "accepted_tokens"):
                self.assertGreater(load.counts[what], 0, what)
            self.assertEqual(campaign.degraded, {"seen": 2}, "the draft was killed, and hung")
            self.assertEqual(load.counts["violation_wrong"], 0)

    @staticmethod
    def in_pairs(plan):
        """In random order, but so that whoever must tell of a lost draft is well."""
        rng = random.Random(SEED)
        while True:
            rng.shuffle(plan)
            pairs = list(zip(plan[::2], plan[1::2]))
            if not any(set(pair) & {(KILL, "draft-worker"), (HANG, "draft-worker")} and
                       "scheduler" in (pair[0][1], pair[1][1]) for pair in pairs):
                return pairs

    @staticmethod
    def inflict_both(campaign, *faults):
        """At the same time, to processes of their own."""
        threads = []
        for kind, role in faults:
            process = next(process for process in campaign.cell.workers(role)
                           if process.name not in campaign.under_fault)
            campaign.under_fault.add(process.name)
            threads.append(threading.Thread(target=campaign.inflict, args=(kind, process.name)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    unittest.main(verbosity=2)
