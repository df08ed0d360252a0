// Workers come and go, and what they say is on its way.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/cell.h"

namespace mirrorsd::sim {

absl::Duration Cell::Delay(Random* link) const {
  if (!plan_.jitter) return absl::Microseconds(100);
  return link->OneIn(30) ? absl::Milliseconds(link->Uniform(1, 150))
                         : absl::Microseconds(link->Uniform(20, 2000));
}

Cell::Connection* Cell::FindConnection(ConnectionId id) {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second.get();
}

Cell::Connection* Cell::Alive(Host* host) {
  Connection* connection = FindConnection(host->connection);
  if (connection == nullptr || connection->broken || connection->worker->dead()) return nullptr;
  return connection->peer->welcomed && !connection->peer->closed ? connection : nullptr;
}

Hello Cell::MakeHello(Host* host) {
  const bool verifier = host->role == WorkerRole::kVerifier;
  const PlannedWorker& planned = *host->planned;
  Hello hello;
  hello.role = host->role;
  hello.name = absl::StrCat(verifier ? "v" : "d", host->index);
  hello.boot_id = "boot";
  hello.model_fingerprint = verifier ? "target" : "draft";
  hello.vocabulary_fingerprint = "vocabulary";
  hello.numerics_id = absl::StrCat("n", planned.numerics);
  hello.context_length = verifier ? kContext : kDraftContext;
  hello.vocabulary_size = verifier ? kVocabulary : kDraftVocabulary;
  hello.kv_block_tokens = kBlockTokens;
  hello.limits = planned.limits;
  hello.blocks = {planned.blocks, planned.blocks, 0};
  hello.step_times = planned.step_times;
  hello.process_id = host->process_id;
  switch (std::exchange(host->odd_hello, 0)) {
    case 1: hello.schema_revision += 1; break;
    case 2: hello.vocabulary_fingerprint = "other"; break;
    case 3: hello.model_fingerprint = "other"; break;
    case 4: hello.context_length = 0; break;
    default: break;
  }
  return hello;
}

void Cell::MakeWorker(Connection* connection, const Hello& hello) {
  const PlannedWorker& planned = *connection->host->planned;
  const auto report = [this, connection](ReportItem item) { Deliver(connection, std::move(item)); };
  const auto breach = [this](const std::string& what) { Violation(what); };
  if (hello.role == WorkerRole::kVerifier) {
    auto worker = std::make_unique<SimVerifier>(&clock_, hello, report, breach);
    worker->base = planned.step;
    worker->numerics = planned.numerics;
    worker->exit_recall = plan_.exit_recall;
    worker->exit_mute = plan_.exit_mute;
    worker->on_error = [this](SequenceId id, const std::string& reason) {
      oracle_.ItemFailed(id, reason);
    };
    connection->worker = std::move(worker);
  } else {
    auto worker = std::make_unique<SimDraft>(&clock_, hello, report, breach);
    worker->per_depth = planned.step;
    worker->agreement = plan_.agreement;
    worker->gives_up_one_in = plan_.gives_up_one_in;
    connection->worker = std::move(worker);
  }
}

void Cell::Dial(Host* host) {
  host->dialling = false;
  if (Alive(host) != nullptr) return;
  const ConnectionId id = next_connection_++;
  const uint64_t seed = Random(host->planned->seed, static_cast<uint64_t>(host->num_dials++)).Next();
  auto owned = std::make_unique<Connection>(seed);
  Connection* connection = owned.get();
  connections_[id] = std::move(owned);
  connection->id = id;
  connection->host = host;
  connection->last_in = connection->last_out = clock_.now();
  host->connection = id;
  const bool odd = host->odd_hello != 0;
  const Hello hello = MakeHello(host);
  if (tells_) names_[id] = hello.name;
  MakeWorker(connection, hello);
  oracle_.Dialled(id, connection->worker.get());
  connection->peer = oracle_.FindPeer(id);
  if (odd) connection->peer->fault = FaultKind::kBadHello;
  Step(scheduler::WorkerAttached{id, hello});
  // An odd one that was taken, as the first of a cell that is told nothing, is put right soon.
  if (odd && !connection->broken) {
    clock_.After(absl::Milliseconds(300), [this, connection] {
      if (connection->broken) return;
      Break(connection);
      Detach(connection->id, "put right");
    });
  }
}

void Cell::Beat(ConnectionId id) {
  Connection* connection = FindConnection(id);
  if (connection == nullptr || connection->broken || connection->worker->dead()) return;
  SimWorker* worker = connection->worker.get();
  if (!worker->hung()) Deliver(connection, Heartbeat{0, worker->num_done(), worker->Blocks()});
  clock_.After(config_.worker_timeout / 5, [this, id] { Beat(id); });
}

// A report goes to the scheduler, now and then twice.
void Cell::Deliver(Connection* connection, ReportItem item) {
  if (connection->broken) return;
  const bool twice = plan_.repeat_one_in > 0 && connection->link.OneIn(plan_.repeat_one_in) &&
                     !std::holds_alternative<Heartbeat>(item);
  connection->last_in = std::max(connection->last_in, clock_.now() + Delay(&connection->link));
  clock_.After(connection->last_in - clock_.now(),
               [this, connection, twice, item = std::move(item)] {
                 if (connection->broken || connection->peer->closed) return;
                 const Fence fence = connection->peer->fence;
                 Step(scheduler::WorkerReported{connection->id, fence, item});
                 if (!twice || connection->broken || connection->peer->closed) return;
                 // A state may be told again and mean it; of the rest, the second is void.
                 if (std::holds_alternative<SequenceState>(item)) return;
                 if (core_->NextDeadline() <= CoreNow()) StepOnce(scheduler::TimePassed{}, false);
                 if (connection->broken || connection->peer->closed) return;
                 if (!std::holds_alternative<Drain>(item)) oracle_.ExpectNothing();
                 StepOnce(scheduler::WorkerReported{connection->id, fence, item}, false);
                 coverage_->Count(Row::kRepeated);
               });
}

void Cell::Break(Connection* connection) {
  connection->broken = true;
  connection->worker->Kill();
}

// The scheduler hears that a connection is over.
void Cell::Detach(ConnectionId id, const std::string& why) {
  Connection* connection = FindConnection(id);
  Break(connection);
  const bool was_closed = connection->peer->closed;
  Step(scheduler::WorkerDetached{id, why});
  if (!was_closed || quiet_) {
    DialAgain(connection->host, quiet_ ? absl::Milliseconds(100)
                                       : absl::Milliseconds(connection->link.Uniform(10, 3000)));
  }
}

void Cell::DialAgain(Host* host, absl::Duration backoff) {
  if (host->dialling) return;
  host->dialling = true;
  if (quiet_) backoff = std::min(backoff, absl::Milliseconds(200));
  clock_.After(backoff, [this, host] { Dial(host); });
}

}  // namespace mirrorsd::sim
