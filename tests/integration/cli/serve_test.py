"""`mirrorsd serve`: health, metrics, draining; and as separate processes: kills in the middle of streams."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from programs import OTHER_VOCABULARY, TARGET, Serve, expected, ids_text, run, wait_for

DONE, BAD_INPUT, UNAVAILABLE = 0, 3, 4
NUM_TOKENS = 450
NUM_STREAMS = 8


def request(index):
    """Arguments of the index-th request: long, and different from the others."""
    return ("--prompt", f"Story number {index}", "--max-tokens", NUM_TOKENS, "--ignore-eos",
            "--temperature", index % 2, "--seed", 1000 + index, "--output", "json")


def undisturbed(count=NUM_STREAMS):
    """What the requests yield alone, without speculation, in a process of their own."""
    outputs = []
    with Serve("--model", TARGET) as cell:
        for index in range(count):
            done = cell.generate(*request(index))
            assert done.returncode == DONE, done.stderr
            outputs.append(json.loads(done.stdout)["token_ids"])
    return outputs


class OneProcess(unittest.TestCase):
    def test_health_metrics_and_drain(self):
        with Serve("--model", TARGET, "--draft-model", TARGET) as cell:
            self.assertEqual(cell.get("/readyz"), (200, "ready\n"))
            self.assertEqual(cell.get("/livez"), (200, "alive\n"))
            self.assertEqual(cell.get("/nothing")[0], 404)
            prompt = expected()["prompts"][0]
            done = cell.generate("--prompt-ids", ids_text(prompt["ids"]), "--max-tokens", 48,
                                 "--temperature", 0, "--ignore-eos", "--output", "json")
            answer = json.loads(done.stdout)
            self.assertEqual(answer["token_ids"], prompt["greedy_ids"])
            self.check_metrics(cell, answer)
            self.check_bad_requests_fail_alone(cell)

            client = cell.start_generate(*request(0))
            wait_for(lambda: cell.metric("streams_open") == 1 or client.poll() is not None,
                     "the stream")
            cell.terminate()
            self.assertEqual(cell.wait(), DONE, cell.stderr())
            output, said = client.communicate(timeout=60)
            self.assertEqual(client.returncode, DONE, said)
            self.assertEqual(len(json.loads(output)["token_ids"]), NUM_TOKENS)

    def check_metrics(self, cell, answer):
        drafted = answer["speculation"]["drafted_tokens"]
        wait_for(lambda: cell.metric("spec_decode_num_draft_tokens_total") == drafted,
                 "the scheduler's report")
        self.assertEqual(cell.metric("spec_decode_num_accepted_tokens_total"),
                         answer["speculation"]["accepted_tokens"])
        self.assertEqual(cell.metric("requests_total", finish_reason="length", role="gateway"), 1)
        self.assertEqual(cell.metric("tokens_generated_total"), 48)
        self.assertEqual(cell.metric("workers_attached", role="draft", state="ready"), 1)
        self.assertEqual(cell.metric("speculation_degraded"), 0)
        for role in ("gateway", "scheduler", "verifier-worker", "draft-worker"):
            self.assertEqual(cell.metric("build_info", role=role), 1, role)
        if shutil.which("promtool"):
            checked = subprocess.run(["promtool", "check", "metrics"], text=True,
                                     input=cell.get("/metrics")[1], capture_output=True)
            self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def check_bad_requests_fail_alone(self, cell):
        good = cell.start_generate(*request(1))
        for bad in (("--prompt", ""), ("--prompt", "x", "--max-tokens", 0),
                    ("--prompt-ids", "99999"), ("--prompt", "x", "--temperature", "nan")):
            self.assertEqual(cell.generate(*bad).returncode, BAD_INPUT)
        output, said = good.communicate(timeout=60)
        self.assertEqual(good.returncode, DONE, said)
        self.assertEqual(len(json.loads(output)["token_ids"]), NUM_TOKENS)
        self.assertEqual(cell.metric("requests_rejected_total", reason="INVALID_FIELD"), 4)

    def test_a_client_that_leaves_is_cancelled_and_its_blocks_return(self):
        with Serve("--model", TARGET, "--draft-model", TARGET, "--backend", "naive") as cell:
            clients = [cell.start_generate(*request(i)) for i in range(4)]
            wait_for(lambda: (cell.metric("tokens_generated_total") or 0) > 4, "first tokens")
            # All of them are there: a client that is killed before it has asked ends nothing.
            wait_for(lambda: cell.metric("streams_open") + (cell.metric(
                "requests_total", finish_reason="length") or 0) == 4, "the requests")
            for client in clients:
                client.kill()
                client.communicate()
            wait_for(lambda: cell.metric("streams_open") == 0, "the streams' ends")
            wait_for(lambda: cell.metric("num_requests_running") == 0, "the requests' ends")
            wait_for(lambda: cell.metric("kv_cache_usage_ratio", role="scheduler") == 0, "blocks")
            ended = (cell.metric("requests_total", finish_reason="cancelled") +
                     cell.metric("requests_total", finish_reason="length"))
            self.assertEqual(ended, 4)

    def test_bad_models_and_taken_ports(self):
        self.assertEqual(run("serve", "--model", "no/such", "--http-port", 0).returncode, BAD_INPUT)
        with Serve("--model", TARGET) as cell:
            port = cell.http.rsplit(":", 1)[1]
            done = run("serve", "--model", TARGET, "--grpc-port", 0, "--http-port", port)
            self.assertEqual(done.returncode, BAD_INPUT)
            self.assertIn(port, done.stderr)


class SeparateProcesses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.expected = undisturbed()

    def serve(self, *more):
        return Serve("--separate-processes", "--model", TARGET, "--draft-model", TARGET, *more)

    def start_streams(self, cell):
        clients = [cell.start_generate(*request(i)) for i in range(NUM_STREAMS)]
        self.addCleanup(lambda: [self.end(client) for client in clients])
        return clients

    @staticmethod
    def end(client):
        if client.poll() is None:
            client.kill()
        client.stdout.close()
        client.stderr.close()
        client.wait()

    def check_streams(self, clients):
        """All end well, with the tokens of undisturbed ones; returns their statistics."""
        statistics = []
        for index, client in enumerate(clients):
            output, said = client.communicate(timeout=120)
            self.assertEqual(client.returncode, DONE, said)
            answer = json.loads(output)
            self.assertEqual(answer["token_ids"], self.expected[index], index)
            statistics.append(answer["speculation"])
        return statistics

    def wait_for_tokens(self, cell, more):
        start = cell.metric("tokens_generated_total") or 0
        wait_for(lambda: cell.metric("tokens_generated_total") >= start + more, "tokens")

    def test_draft_worker_killed_in_mid_stream(self):
        with self.serve() as cell:
            wait_for(lambda: cell.metric("workers_attached", role="draft", state="ready") == 1,
                     "the draft")
            pid = cell.pid("draft-worker")
            clients = self.start_streams(cell)
            self.wait_for_tokens(cell, NUM_STREAMS * 8)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: cell.metric("speculation_degraded_total", reason="draft_lost") == 1,
                     "DEGRADED")
            statistics = self.check_streams(clients)
            self.assertTrue(any(each["accepted_tokens"] > 0 for each in statistics))
            wait_for(lambda: cell.pid("draft-worker") != pid, "a new draft-worker")
            self.assertEqual(cell.metric("worker_lost_total", role="draft"), 1)
            # On a busy machine the new draft may have been late, too: it proves itself by drafting.
            wait_for(lambda: self.drafts_again(cell), "drafting", interval=0.2)
            wait_for(lambda: cell.metric("workers_attached", role="draft", state="ready") == 1,
                     "the draft's return")
            wait_for(lambda: cell.metric("speculation_degraded") == 0, "the end of DEGRADED")

    def drafts_again(self, cell):
        answer = json.loads(cell.generate(*request(0)).stdout)
        self.assertEqual(answer["token_ids"], self.expected[0])
        return (answer["speculation"]["accepted_tokens"] > 0 and
                cell.metric("speculation_degraded") == 0)

    def test_verifier_worker_killed_in_mid_stream(self):
        with self.serve() as cell:
            pid = cell.pid("verifier-worker")
            clients = self.start_streams(cell)
            self.wait_for_tokens(cell, NUM_STREAMS * 8)
            os.kill(pid, signal.SIGKILL)
            statistics = self.check_streams(clients)
            self.assertTrue(any(each["resumes"] > 0 for each in statistics), statistics)
            self.assertEqual(cell.metric("worker_lost_total", role="verifier"), 1)
            self.assertNotEqual(cell.pid("verifier-worker"), pid)
            wait_for(lambda: cell.metric("kv_cache_usage_ratio", role="scheduler") == 0, "blocks")
            self.assertEqual(cell.get("/readyz")[0], 200)

    def test_scheduler_and_gateway_come_back(self):
        with self.serve() as cell:
            for role in ("scheduler", "gateway"):
                pid = cell.pid(role)
                clients = self.start_streams(cell)
                self.wait_for_tokens(cell, NUM_STREAMS)
                os.kill(pid, signal.SIGKILL)
                for client in clients:
                    client.communicate(timeout=120)
                    # Some may have finished before; the others are told that trying again helps.
                    self.assertIn(client.returncode, (DONE, UNAVAILABLE))
                wait_for(lambda: cell.pid(role) != pid, f"a new {role}")
                wait_for(lambda: cell.get("/readyz")[0] == 200, "readiness")
                answer = json.loads(cell.generate(*request(3)).stdout)
                self.assertEqual(answer["token_ids"], self.expected[3])

    def test_sigterm_drains(self):
        with self.serve() as cell:
            clients = self.start_streams(cell)
            wait_for(lambda: cell.metric("streams_open") + cell.metric("requests_total") ==
                     NUM_STREAMS, "all streams")
            cell.terminate()
            wait_for(lambda: cell.get("/readyz")[0] != 200, "the end of readiness")
            self.check_streams(clients)
            self.assertEqual(cell.wait(), DONE, cell.stderr())
            self.assertEqual(cell.lines[-1], "stopped")

    def test_children_die_with_their_parent(self):
        with self.serve() as cell:
            pids = [cell.pid(role)
                    for role in ("scheduler", "verifier-worker", "draft-worker", "gateway")]
            cell.process.kill()
            cell.process.wait()
            wait_for(lambda: not any(self.lives(pid) for pid in pids), "the children's ends")

    @staticmethod
    def lives(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                return file.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def test_a_draft_of_another_vocabulary_ends_all(self):
        done = run("serve", "--separate-processes", "--model", TARGET, "--draft-model",
                   OTHER_VOCABULARY, "--grpc-port", 0, "--http-port", 0)
        self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
        self.assertIn("vocabulary", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
