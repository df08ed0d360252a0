// What happens to a simulated cell: who dials, who asks, and what goes wrong.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/cell.h"

namespace mirrorsd::sim {

Hello Cell::MakeHello(WorkerRole role, int index) {
  const bool verifier = role == WorkerRole::kVerifier;
  Hello hello;
  hello.role = role;
  hello.name = absl::StrCat(verifier ? "v" : "d", index);
  hello.boot_id = "boot";
  hello.model_fingerprint = verifier ? "target" : "draft";
  hello.vocabulary_fingerprint = "vocabulary";
  hello.numerics_id = two_numerics_ && index == 1 ? "n1" : "n0";
  hello.context_length = verifier ? 96 : 80;
  hello.vocabulary_size = verifier ? kVocabulary : kDraftVocabulary;
  hello.kv_block_tokens = 4;
  hello.limits = {static_cast<int32_t>(random_.Uniform(3, 10)),
                  static_cast<int32_t>(random_.Uniform(4, 40)),
                  static_cast<int32_t>(random_.Uniform(1, 8))};
  hello.blocks.total = verifier ? random_.Uniform(24, 120) : 1000;
  hello.blocks.free = hello.blocks.total;
  if (random_.OneIn(2)) hello.step_times = {1000000, 10000};
  if (!quiet_ && random_.OneIn(40)) hello.schema_revision += 1;
  if (!quiet_ && random_.OneIn(40)) hello.vocabulary_fingerprint = "other";
  if (!quiet_ && verifier && random_.OneIn(40)) hello.model_fingerprint = "other";
  return hello;
}

ConnectionId Cell::Dial(WorkerRole role, int index) {
  const ConnectionId id = next_connection_++;
  const Hello hello = MakeHello(role, index);
  Connection& connection = connections_[id];
  auto report = [this, id](ReportItem item) {
    Connection& from = connections_.at(id);
    const int times = duplicate_one_in_ > 0 && random_.OneIn(duplicate_one_in_) ? 2 : 1;
    if (times > 1) ++tally_["fault: report repeated"];
    for (int i = 0; i < times; ++i) {
      from.last_in = std::max(from.last_in, now_ + Delay());
      const bool old_fence = !quiet_ && random_.OneIn(200);
      After(from.last_in - now_, [this, id, item, old_fence] {
        const Connection& now = connections_.at(id);
        if (now.detached) return;
        if (old_fence) {
          Fence old = now.fence;
          --old.incarnation;
          // As if of an earlier life: whatever it says, it is not this worker that says it.
          Step(scheduler::WorkerReported{id, old, random_.OneIn(2) ? item : MakeLie()});
          ++tally_["fault: stale fence"];
        }
        Step(scheduler::WorkerReported{id, now.fence, item});
      });
    }
  };
  if (role == WorkerRole::kVerifier) {
    auto worker = std::make_shared<SimVerifier>(this, hello, report);
    worker->base = absl::Milliseconds(random_.Uniform(1, 30));
    worker->numerics = hello.numerics_id == "n1" ? 1 : 0;
    worker->nan_one_in = !quiet_ && random_.OneIn(8) ? 60 : 0;
    worker->kv_exhausted_one_in = !quiet_ && random_.OneIn(6) ? 40 : 0;
    worker->on_nan = [this] { nan_ = true; };
    connection.worker = worker;
  } else {
    auto worker = std::make_shared<SimDraft>(this, hello, report);
    worker->per_depth = absl::Microseconds(random_.OneIn(5) ? random_.Uniform(5000, 50000)
                                                            : random_.Uniform(100, 3000));
    worker->agreement = agreement_;
    worker->evict_one_in = !quiet_ && random_.OneIn(3) ? 30 : 0;
    connection.worker = worker;
  }
  connection.last_in = connection.last_out = now_;
  Tell(absl::StrCat("dial ", hello.name, " as ", id));
  Step(scheduler::WorkerAttached{id, hello});
  // A refused one is set right and comes again.
  if (connection.closed) DialAgainLater(role, index);
  return id;
}

void Cell::Beat(ConnectionId id) {
  Connection& connection = connections_.at(id);
  if (connection.closed || connection.detached || connection.worker->dead()) return;
  if (!connection.worker->hung()) {
    Step(scheduler::WorkerReported{id, connection.fence,
                                   Heartbeat{0, 0, connection.worker->Blocks()}});
  }
  After(absl::Seconds(1), [this, id] { Beat(id); });
}

void Cell::Detach(ConnectionId id, const std::string& why) {
  Connection& connection = connections_.at(id);
  if (connection.detached) return;
  const bool was_closed = connection.closed;
  connection.detached = true;
  connection.worker->Kill();
  Step(scheduler::WorkerDetached{id, why});
  connection.closed = true;
  const Hello& hello = connection.worker->hello();
  if (!was_closed) DialAgainLater(hello.role, hello.name.back() - '0');
}

void Cell::DialAgainLater(WorkerRole role, int index) {
  const auto key = std::make_pair(role, index);
  if (dialling_[key] > 0) return;
  ++dialling_[key];
  const absl::Duration backoff =
      quiet_ ? absl::Milliseconds(200) : absl::Milliseconds(random_.Uniform(10, 6000));
  After(backoff, [this, key] {
    --dialling_[key];
    Dial(key.first, key.second);
  });
}

Cell::Connection* Cell::PickWorker(WorkerRole role, ConnectionId* id) {
  std::vector<ConnectionId> alive;
  for (const auto& [connection_id, connection] : connections_) {
    if (!connection.closed && !connection.detached && connection.welcomed &&
        connection.worker->hello().role == role) {
      alive.push_back(connection_id);
    }
  }
  if (alive.empty()) return nullptr;
  *id = alive[random_.Uniform(0, static_cast<int64_t>(alive.size()) - 1)];
  return &connections_.at(*id);
}

void Cell::PlanClients() {
  for (int i = 0; i < num_to_submit_; ++i) {
    const absl::Duration at = random_.OneIn(2) ? absl::Milliseconds(random_.Uniform(5, 500))
                                               : absl::Milliseconds(random_.Uniform(5, 30000));
    After(at, [this] { Submit(); });
  }
}

void Cell::Submit() {
  const ConnectionId stream = next_stream_++;
  Client& client = clients_[stream];
  client.submitted_at = CoreNow();
  SubmitRequest& request = client.request;
  request.request_id = absl::StrCat("r", stream);
  request.vocabulary_fingerprint = "vocabulary";
  const int64_t length = random_.OneIn(4) ? random_.Uniform(1, 60) : random_.Uniform(1, 16);
  for (int64_t i = 0; i < length; ++i) {
    request.token_ids.push_back(static_cast<TokenId>(random_.Uniform(0, kVocabulary - 1)));
  }
  if (random_.OneIn(2)) request.end_token_ids = {kEndToken};
  request.max_tokens = static_cast<int32_t>(random_.OneIn(5) ? 200 : random_.Uniform(1, 30));
  // The smallest verifier has 24 blocks of 4 tokens, which is the context: nothing is refused for size.
  client.max_tokens = static_cast<int32_t>(std::min<int64_t>(request.max_tokens, 96 - length));
  if (random_.OneIn(5)) request.speculation = SpeculationMode::kOff;
  if (random_.OneIn(4)) request.num_speculative_tokens = static_cast<int32_t>(random_.Uniform(0, 9));
  if (random_.OneIn(8)) request.deadline = absl::Milliseconds(random_.Uniform(1, 20000));
  Tell(absl::StrCat("submit ", stream, " prompt ", length, " max_tokens ", client.max_tokens));
  ++tally_["requests"];
  Step(scheduler::Submitted{stream, request});
  if (!random_.OneIn(6)) return;
  After(absl::Milliseconds(random_.Uniform(0, random_.OneIn(2) ? 200 : 10000)), [this, stream] {
    Client& gone = clients_.at(stream);
    if (!gone.ended) ++tally_["fault: client cancels"];
    gone.cancelled = true;
    Tell(absl::StrCat("cancel ", stream));
    Step(scheduler::Cancelled{stream});
  });
}

void Cell::PlanFaults() {
  const int64_t num = random_.Uniform(3, 10);
  for (int64_t i = 0; i < num; ++i) {
    After(absl::Milliseconds(random_.Uniform(20, random_.OneIn(2) ? 2000 : 35000)),
          [this] { Fault(); });
  }
}

void Cell::Fault() {
  const WorkerRole role = random_.OneIn(2) ? WorkerRole::kVerifier : WorkerRole::kDraft;
  const std::string of = role == WorkerRole::kVerifier ? " verifier" : " draft";
  ConnectionId id = 0;
  Connection* connection = PickWorker(role, &id);
  if (connection == nullptr) return;
  const std::string name = connection->worker->hello().name;
  const auto tell = [&](const std::string& what) {
    ++tally_[absl::StrCat("fault: ", what, of)];
    Tell(absl::StrCat("fault: ", what, " ", name));
  };
  switch (random_.Uniform(0, 6)) {
    case 0:
      tell("kill");
      connection->worker->Kill();
      After(Delay(), [this, id] { Detach(id, "killed"); });
      return;
    case 1: {  // the new one comes before the old connection is known to be gone
      tell("restart, half-open");
      connection->worker->Kill();
      After(Delay() * 3, [this, id] { Detach(id, "late"); });
      Dial(role, name.back() - '0');
      return;
    }
    case 2:
    case 3: {
      tell("hang");
      connection->worker->set_hung(true);
      auto worker = connection->worker;
      if (random_.OneIn(2)) {
        After(absl::Milliseconds(random_.Uniform(10, 9000)), [worker] { worker->set_hung(false); });
      }
      return;
    }
    case 4:
      tell("queue full");
      connection->worker->set_misled();
      return Step(scheduler::WorkerQueueFull{id});
    case 5:
      tell("lie");
      connection->worker->set_misled();
      return Step(scheduler::WorkerReported{id, connection->fence, MakeLie()});
    case 6:
      tell("drain");
      Step(scheduler::WorkerReported{id, connection->fence, Drain{}});
      After(absl::Seconds(random_.Uniform(0, 10)), [this, id] { Detach(id, "drained"); });
      return;
  }
}

// A report that a correct worker would not send. It may be refused or ignored; it may not do harm.
ReportItem Cell::MakeLie() {
  const uint64_t sequence_id = static_cast<uint64_t>(random_.Uniform(0, 40));
  const uint64_t round_id = static_cast<uint64_t>(random_.Uniform(0, 300));
  const int32_t number = static_cast<int32_t>(random_.Uniform(-3, 80));
  const TokenId token = static_cast<TokenId>(random_.Uniform(-2, 70));
  ReportItem item;
  switch (random_.Uniform(0, 6)) {
    case 0: {
      VerifyItemDone done{sequence_id, number, static_cast<int32_t>(random_.Uniform(-1, 9)), {}, {}};
      if (random_.OneIn(2)) done.correction_token = token + kVocabulary;  // never a plausible one
      done.kv_length = -1 - done.kv_length;
      item = scheduler::VerifyItemReport{round_id, done};
      break;
    }
    case 1: item = scheduler::VerifyRoundDone{round_id, {}, {5, 9, 9}}; break;
    case 2: item = SequenceStarted{sequence_id, number + 100}; break;
    case 3: item = SequenceEnded{sequence_id, {}}; break;
    case 4: {
      RolloutProgress progress;
      progress.sequence_id = sequence_id;
      progress.round_id = round_id;
      progress.num_accepted = number;
      progress.root_token = token;
      progress.first_depth = static_cast<int32_t>(random_.Uniform(-1, 2));
      progress.token_ids.assign(random_.Uniform(0, 30), token);
      item = progress;
      break;
    }
    case 5:
      item = SequenceState{sequence_id, static_cast<DraftSequenceState>(random_.Uniform(0, 3)),
                           number, {}};
      break;
    case 6: item = Heartbeat{0, 0, {1, 2, 3}}; break;
  }
  return item;
}

// The end: nothing new goes wrong, and every worker is there.
void Cell::Quieten() {
  quiet_ = true;
  Tell("quiet");
  std::vector<ConnectionId> bad;
  for (auto& [id, connection] : connections_) {
    if (connection.closed || connection.detached) continue;
    bad.push_back(id);
  }
  for (const ConnectionId id : bad) Detach(id, "restarted at the end");
  Step(scheduler::DrainRequested{});
}

}  // namespace mirrorsd::sim
