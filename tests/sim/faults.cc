// What goes wrong.

#include <algorithm>
#include <utility>

#include "tests/sim/cell.h"

namespace mirrorsd::sim {

void Cell::PlanFaults() {
  for (const PlannedFault& fault : plan_.faults) {
    clock_.After(fault.at, [this, &fault] { TryFault(fault); });
  }
}

// Faults come while requests live: if none does, this one waits for the next.
void Cell::TryFault(const PlannedFault& fault) {
  if (quiet_ || !violation_.empty()) return;
  if (oracle_.num_live() == 0) {
    postponed_.push_back(&fault);
  } else if (Fault(fault)) {
    ++num_faults_;
  } else {  // nobody there whom it could befall
    clock_.After(absl::Milliseconds(100), [this, &fault] { TryFault(fault); });
  }
}

bool Cell::Fault(const PlannedFault& fault) {
  switch (fault.kind) {
    case FaultKind::kGone: return AllGone(fault);
    case FaultKind::kStandStill: return StandStill(fault);
    case FaultKind::kNewLife: return NewLife(fault);
    default: break;
  }
  std::vector<Connection*> alive;
  for (const auto& host : hosts_) {
    Connection* connection = host->role == fault.role ? Alive(host.get()) : nullptr;
    if (connection != nullptr) alive.push_back(connection);
  }
  if (alive.empty()) return false;
  Connection* connection = alive[fault.index % alive.size()];
  if (tells_) {
    Tell(absl::StrCat("# fault: ", FaultName(fault.kind), " ", names_[connection->id]));
  }
  return FaultOfWorker(fault, connection);
}

bool Cell::FaultOfWorker(const PlannedFault& fault, Connection* connection) {
  Random random(fault.seed);
  Host* host = connection->host;
  connection->peer->fault = fault.kind;
  switch (fault.kind) {
    case FaultKind::kKill:
      Kill(connection, &random);
      return true;
    case FaultKind::kHalfOpen:
    case FaultKind::kDrop:
      Drop(fault, connection);
      return true;
    case FaultKind::kHang:
    case FaultKind::kStall:
      Freeze(fault, connection);
      return true;
    case FaultKind::kSlow:
      connection->worker->set_slowness(random.Uniform(5, 60));
      connection->peer->slow = true;
      CoverLater(fault.kind, connection, absl::Seconds(1));
      return true;
    case FaultKind::kQueueFull:
      Step(scheduler::WorkerQueueFull{connection->id});
      return true;
    case FaultKind::kLie:
      connection->peer->fault.reset();
      TryLie(fault, 0);
      return true;
    case FaultKind::kStale:
      connection->peer->fault.reset();
      TryStale(fault, 0);
      return true;
    case FaultKind::kDrain: {
      const absl::Duration until = absl::Milliseconds(random.Uniform(0, 4000));
      Deliver(connection, Drain{});
      clock_.After(until, [this, id = connection->id] {
        if (!FindConnection(id)->broken) Detach(id, "drained");
      });
      return true;
    }
    case FaultKind::kItemError: {
      static constexpr const char* kReasons[] = {"NAN_LOGITS", "KV_EXHAUSTED", "UNKNOWN_SEQUENCE",
                                                 "TOO_MANY_ROWS"};
      connection->peer->fault.reset();
      static_cast<SimVerifier*>(connection->worker.get())->next_error =
          kReasons[random.Uniform(0, 3)];
      return true;
    }
    case FaultKind::kEvict:
    case FaultKind::kForget: {
      connection->peer->fault.reset();
      auto* draft = static_cast<SimDraft*>(connection->worker.get());
      if (draft->frozen()) return false;
      const bool done = fault.kind == FaultKind::kEvict ? draft->EvictOne() : draft->ForgetOne();
      if (done) coverage_->Count(fault.kind, fault.role);
      return done;
    }
    case FaultKind::kBadHello:
      connection->peer->fault.reset();
      host->odd_hello = static_cast<int>(random.Uniform(1, 4));
      Kill(connection, &random);
      return true;
    default:
      return false;
  }
}

// The old connection is gone, and the scheduler hears of it when the new one is there, or before.
void Cell::Drop(const PlannedFault& fault, Connection* connection) {
  Random random(fault.seed);
  Break(connection);
  const absl::Duration late = absl::Milliseconds(random.Uniform(0, 1000));
  clock_.After(late, [this, id = connection->id] { Detach(id, "late"); });
  if (fault.kind == FaultKind::kHalfOpen) {
    ++connection->host->process_id;
    Dial(connection->host);
  } else {
    DialAgain(connection->host, absl::Milliseconds(random.Uniform(1, 200)));
  }
}

// The process dies. What it had said arrives; then the connection breaks.
void Cell::Kill(Connection* connection, Random* random) {
  connection->worker->Kill();
  ++connection->host->process_id;
  const absl::Duration left = std::max(connection->last_in - clock_.now(), absl::ZeroDuration());
  clock_.After(left + absl::Microseconds(random->Uniform(10, 3000)),
               [this, id = connection->id] { Detach(id, "killed"); });
}

void Cell::Freeze(const PlannedFault& fault, Connection* connection) {
  SimWorker* worker = connection->worker.get();
  const bool hang = fault.kind == FaultKind::kHang;
  hang ? worker->SetHung(true) : worker->SetStalled(true);
  const absl::Duration lasts =
      fault.lasts == absl::InfiniteDuration() ? kActive : fault.lasts;
  clock_.After(lasts, [this, connection, hang] {
    if (connection->broken) return;
    SimWorker* worker = connection->worker.get();
    hang ? worker->SetHung(false) : worker->SetStalled(false);
    CoverLater(hang ? FaultKind::kHang : FaultKind::kStall, connection, absl::Milliseconds(500));
  });
}

// The bounds have been watched in the meantime, and still hold.
void Cell::CoverLater(FaultKind kind, Connection* connection, absl::Duration delay) {
  clock_.After(delay, [this, kind, connection] {
    if (!violation_.empty() || connection->peer->fault != kind) return;
    connection->peer->fault.reset();
    coverage_->Count(kind, connection->host->role);
  });
}

bool Cell::AllGone(const PlannedFault& fault) {
  Random random(fault.seed);
  bool any = false;
  for (const auto& host : hosts_) {
    Connection* connection = host->role == fault.role ? Alive(host.get()) : nullptr;
    if (connection == nullptr) continue;
    any = true;
    connection->peer->fault = fault.kind;
    Kill(connection, &random);
  }
  return any;
}

// The host of the scheduler stands still: what the workers say waits.
bool Cell::StandStill(const PlannedFault& fault) {
  Random random(fault.seed);
  const absl::Duration least = config_.worker_timeout / 8;
  clock_.StandStill(least * random.Uniform(1, 24));
  if (tells_) Tell("# the scheduler stood still");
  oracle_.StoodStill(CoreNow());
  clock_.After(config_.worker_timeout, [this] {
    if (violation_.empty()) coverage_->Count(Row::kStandStill);
  });
  return true;
}

// The scheduler dies and starts again: its streams are over, workers dial and clients ask again.
bool Cell::NewLife(const PlannedFault& fault) {
  Random random(fault.seed);
  std::vector<const PlannedClient*> again;
  for (const auto& [stream, request] : oracle_.requests()) {
    if (request->live() && request->client != nullptr) again.push_back(request->client);
  }
  for (const auto& [id, connection] : connections_) {
    if (!connection->broken) Break(connection.get());
  }
  config_.scheduler_epoch += 1;
  core_ = std::make_unique<scheduler::Core>(config_);
  armed_ = absl::InfiniteFuture();
  if (tells_) Tell("# a new life of the scheduler");
  oracle_.BeginLife(config_.scheduler_epoch, CoreNow());
  for (const auto& host : hosts_) {
    DialAgain(host.get(), absl::Milliseconds(random.Uniform(10, 600)));
  }
  for (const PlannedClient* client : again) {
    clock_.After(absl::Milliseconds(random.Uniform(50, 1500)),
                 [this, client] { Submit(*client, 1, true); });
  }
  return true;
}

}  // namespace mirrorsd::sim
