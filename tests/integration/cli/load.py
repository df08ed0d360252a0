"""Requests whose right answers are known, kept open in numbers against a cell. Standard library only.

The streams are those of tests/support/load_client; here is what it is fed with and how its results are judged: the
tokens of a request that finished equal those of an undisturbed run without speculation; what arrived before an
error or a cancellation is a beginning of them; an error may be retried, and is; nothing takes for ever.
"""

import collections
import json
import os
import random
import subprocess
import threading
import time

from programs import BIN, Serve, clean_environment

SUPPORT = os.environ.get("MIRRORSD_SUPPORT", os.path.join(os.path.dirname(BIN) or ".", "support"))
MOST_ATTEMPTS = 300  # of one request, about one a second
HELD_OUT = "models/demo-target/held_out_prompts.jsonl"


def support_program(name):
    return os.path.join(SUPPORT, name)


def make_requests(count, seed, max_tokens=320):
    """`count` different ones: kinds of text, lengths, temperatures, seeds, windows, chat and plain."""
    rng = random.Random(seed)
    with open(HELD_OUT, encoding="utf-8") as file:
        texts = [json.loads(line)["turns"][0] for line in file]
    requests = []
    for index in range(count):
        text = rng.choice(texts)
        if rng.random() < 0.2:  # a prompt of several chunks
            text = " ".join(rng.sample(texts, 12))[:1600] + " " + text
        request = {
            "sampling": {"temperature": rng.choice((0, 0, 0.6, 1)), "seed": str(rng.randrange(2**53))},
            "max_tokens": min(max_tokens, rng.choice((1, 2, 17, 48, 96, 160, 240, 320))),
            "ignore_eos": rng.random() < 0.7}
        if rng.random() < 0.3:
            request["sampling"].update({"top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1})
        if rng.random() < 0.3:
            request["chat"] = {"messages": [{"role": "user", "content": text}]}
        else:
            request["prompt"] = f"{index}. {text}"
        if rng.random() < 0.3:
            request["speculation"] = {"num_speculative_tokens": rng.choice((1, 2, 8))}
        requests.append(request)
    return requests


class Client:
    """One load_client: orders in, results to a callback on a thread of its own."""

    def __init__(self, server, streams, on_result, bound_s, gap_s, prefix):
        self.process = subprocess.Popen(
            [*prefix, support_program("load_client"), "--server", server, "--streams", str(streams),
             "--bound-s", str(bound_s), "--gap-s", str(gap_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment())
        self.on_result = on_result
        self.lock = threading.Lock()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.on_result(json.loads(line))

    def order(self, identity, request, cancel_after_tokens=0):
        line = json.dumps({"id": identity, "request": request,
                           "cancel_after_tokens": cancel_after_tokens})
        with self.lock:
            if self.process.stdin.closed:
                return
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def close(self):
        with self.lock:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(timeout=10)
        self.process.stdout.close()


def undisturbed(requests, target, streams=8):
    """The token ids and finish reason of each request, without speculation and without a fault."""
    answers, done = {}, threading.Event()

    def take(result):
        assert result["code"] == "OK", result
        answers[int(result["id"])] = (result["token_ids"], result["final"]["finish_reason"])
        if len(answers) == len(requests):
            done.set()

    with Serve("--model", target, "--speculation", "off") as cell:
        client = Client(cell.grpc, streams, take, 600, 1, ())
        for index, request in enumerate(requests):
            client.order(str(index), request)
        assert done.wait(timeout=600), "the undisturbed run did not end"
        client.close()
    return answers


class Load:
    """Keeps `streams` requests open, each tried again until it finishes, and judges every result."""

    RETRY_S = (0.3, 1.2)

    def __init__(self, server, requests, answers, streams, seed, bound_s=120, gap_s=0.25,
                 prefix=()):
        self.requests, self.answers = requests, answers
        self.streams = streams
        self.rng = random.Random(seed)
        self.lock = threading.Condition()
        self.counts = collections.Counter()
        self.retried = collections.Counter()  # by code and reason
        self.violations = []
        self.gaps = []      # (begun_at, seconds)
        self.live = {}      # id -> (index, attempts so far, cancel_after_tokens)
        self.open = False
        self.next_id = 0
        self.client = Client(server, streams, self._take, bound_s, gap_s, prefix)

    def resume(self):
        with self.lock:
            self.open = True
            while len(self.live) < self.streams:
                self._start_one()

    def pause(self, timeout):
        """Starts nothing more and waits until all is answered; false if that takes too long."""
        with self.lock:
            self.open = False
            return self.lock.wait_for(lambda: not self.live, timeout)

    def close(self):
        with self.lock:
            self.open = False
        self.client.close()

    def _start_one(self):
        index = self.rng.randrange(len(self.requests))
        expected = self.answers[index][0]
        cancel = self.rng.randrange(1, max(2, len(expected))) if self.rng.random() < 0.05 else 0
        identity = str(self.next_id)
        self.next_id += 1
        self.counts["started"] += 1
        self._send(identity, index, 1, cancel)

    def _send(self, identity, index, attempt, cancel):
        self.live[identity] = (index, attempt, cancel)
        self.client.order(identity, self.requests[index], cancel)

    def _again(self, identity):
        with self.lock:
            index, attempt, cancel = self.live[identity]
            self._send(identity, index, attempt + 1, cancel)

    def _take(self, result):
        with self.lock:
            index, attempt, cancel = self.live[result["id"]]
            self.gaps += [tuple(gap) for gap in result["gaps"]]
            if not self._judge(result, index, attempt, cancel):
                timer = threading.Timer(self.rng.uniform(*self.RETRY_S), self._again, [result["id"]])
                timer.daemon = True
                timer.start()
                return
            del self.live[result["id"]]
            if self.open:
                self._start_one()
            self.lock.notify_all()

    def _judge(self, result, index, attempt, cancel):
        """Whether the request is over; false where it is to be tried again."""
        expected, finish = self.answers[index]
        got = result["token_ids"]
        if result["code"] == "OK":
            final = result["final"]
            self.counts["finished"] += 1
            self.counts["tokens"] += len(got)
            speculation = final["speculation"]
            self.counts["resumed"] += int(speculation["resumes"]) > 0
            self.counts["accepted_tokens"] += int(speculation["accepted_tokens"])
            self.counts["drafted_tokens"] += int(speculation["drafted_tokens"])
            if got != expected or final["finish_reason"] != finish:
                self._violate("wrong", f"request {index} yielded other tokens", result)
            return True
        if got != expected[:len(got)]:
            self._violate("wrong", f"request {index} began with other tokens", result)
        if result["hung"]:
            self._violate("hung", f"request {index} had no end", result)
            return True
        if result["code"] == "CANCELLED" and cancel and len(got) >= cancel:
            self.counts["cancelled"] += 1
            return True
        if not result["retryable"] and not self._is_expected(result):
            self._violate("not_retryable", f"request {index} failed for good", result)
            return True
        self.retried[f"{result['code']} {result['reason'] or 'no gateway'}"] += 1
        self.counts["retried"] += 1
        if attempt >= MOST_ATTEMPTS:
            self._violate("never", f"request {index} failed {attempt} times", result)
            return True
        return False

    @staticmethod
    def _is_expected(result):
        """What may be tried again although the cell does not say so: where nobody was there to say it (gRPC
        says CANCELLED of a call that came just as the gateway went), and where a request met one lost verifier
        after another. The cell cannot know that it was not the request's fault; we do."""
        return (result["code"] in ("UNAVAILABLE", "CANCELLED") and not result["reason"] or
                result["reason"] == "VERIFIER_LOST_REPEATEDLY")

    def _violate(self, kind, message, result):
        self.counts[f"violation_{kind}"] += 1
        told = {key: value for key, value in result.items() if key not in ("final", "gaps")}
        self.violations.append(f"{message}: {json.dumps(told)[:2000]}")

    def wait_for_tokens(self, more, timeout):
        """Until so many more requests' tokens have come; for tests that want a load in full flight."""
        end = time.monotonic() + timeout
        start = self.counts["tokens"]
        while self.counts["tokens"] < start + more:
            assert time.monotonic() < end, f"no {more} tokens within {timeout} s"
            time.sleep(0.02)
