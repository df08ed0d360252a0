#include "scheduler/core/core.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "common/check.h"
#include "common/error.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {
namespace {

constexpr size_t kMaxObservations = 65536;

template <class... Handlers>
struct Visitor : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
Visitor(Handlers...) -> Visitor<Handlers...>;

}  // namespace

Core::Core(CoreConfig config) : machine_(std::make_unique<Machine>(std::move(config))) {}
Core::~Core() = default;
void Core::Step(absl::Time now, const Event& event, std::vector<Action>* actions) {
  machine_->Step(now, event, actions);
}
absl::Time Core::NextDeadline() const { return machine_->NextDeadline(); }
void Core::CheckInvariants() const { machine_->CheckInvariants(); }
bool Core::IsDrained() const { return machine_->IsDrained(); }
CoreHealth Core::Health(absl::Time now) const { return machine_->Health(now); }
const CoreCounters& Core::counters() const { return machine_->counters(); }
CoreGauges Core::Gauges() const { return machine_->Gauges(); }
std::vector<ConnectionId> Core::LateDrafts() const { return machine_->LateDrafts(); }
std::vector<Observation> Core::TakeObservations() { return machine_->TakeObservations(); }

Machine::Machine(CoreConfig config) : config_(std::move(config)) {
  CHECK(FindPolicy(config_.speculation) != nullptr) << "the default speculation has no policy";
}
Machine::~Machine() = default;

void Machine::Step(absl::Time now, const Event& event, std::vector<Action>* actions) {
  const absl::Time was_due = deadlines_.Next();
  now_ = std::max(now_, now);
  actions_ = actions;
  ForgiveOwnStall(was_due);
  while (const auto due = deadlines_.PopDue(now_)) HandleDeadline(due->first, due->second);
  Dispatch(event);
  Settle();
  gone_sequences_.clear();
  gone_workers_.clear();
  actions_ = nullptr;
}

void Machine::Dispatch(const Event& event) {
  std::visit(
      Visitor{
          [this](const Submitted& e) { HandleSubmitted(e); },
          [this](const Cancelled& e) { HandleCancelled(e); },
          [this](const WorkerAttached& e) { HandleAttached(e); },
          [this](const WorkerDetached& e) {
            if (Worker* worker = FindConnection(e.connection)) RemoveWorker(worker);
          },
          [this](const WorkerReported& e) { HandleReport(e); },
          [this](const WorkerQueueFull& e) {
            Worker* worker = FindConnection(e.connection);
            if (worker == nullptr) return;
            // What was sent may not have arrived, so nothing that it says of its sequences can be relied on.
            if (!worker->is_verifier()) MarkLate(worker, true);
            CloseLost(worker, "its outbound queue was full");
          },
          [this](const DrainRequested&) { draining_ = true; },
          [](const TimePassed&) {},
      },
      event);
}

void Machine::HandleDeadline(Wait wait, uint64_t id) {
  const auto worker = [this](uint64_t incarnation) { return workers_.at(incarnation).get(); };
  switch (wait) {
    case Wait::kWorkerSilent:
      return HandleWorkerSilent(worker(id));
    case Wait::kRound:
      return CloseLost(worker(id), "a round took longer than its limit");
    case Wait::kDraftWindows:
      return MarkDirty(worker(id / kNumCohorts));
    case Wait::kSequenceStarted: {
      // Rounds have a limit of their own, and commands are handled in order.
      Worker* verifier = FindOrdinal(id)->verifier;
      if (verifier->round.has_value()) {
        deadlines_.Set(wait, id, now_ + config_.min_round_timeout);
        return;
      }
      return CloseLost(verifier, "a sequence was not started within the limit");
    }
    case Wait::kSequenceEnded: {
      // It comes after the round that is under way, and a round has a limit of its own.
      Worker* holder = worker(ending_.at(id));
      if (holder->round.has_value()) {
        return deadlines_.Set(wait, id, now_ + config_.end_timeout);
      }
      ++counters_.end_timeouts;
      if (!holder->is_verifier()) {
        holder->mute = true;
        MarkLate(holder, true);
      }
      return CloseLease(holder, id);
    }
    case Wait::kRequestDeadline:
      return Fail(FindOrdinal(id),
                  MakeError(absl::StatusCode::kDeadlineExceeded, "the request's deadline has passed",
                            {.reason = "DEADLINE_EXCEEDED", .field = "deadline"}));
    case Wait::kVerifier:
      return HandleVerifierWaitOver(FindOrdinal(id));
    case Wait::kRetryVerifier:
      return Enqueue(FindOrdinal(id));
    case Wait::kRetryDraft:
      FindOrdinal(id)->draft.retry_pending = false;
      return WantDraft(FindOrdinal(id));
  }
}

// When the owner comes much too late, the workers' messages wait behind this call: their silence is ours.
void Machine::ForgiveOwnStall(absl::Time was_due) {
  if (now_ - was_due < config_.worker_timeout / 2) return;
  for (auto& [incarnation, worker] : workers_) {
    if (worker->forgiven) continue;
    worker->forgiven = true;
    worker->heard_at = now_;
    if (worker->round.has_value()) {
      deadlines_.Set(Wait::kRound, incarnation, now_ + RoundLimit(*worker->round));
    }
    for (const auto& [id, sequence] : worker->live) {
      if (worker->is_verifier() && sequence->stage == Stage::kStarting) {
        deadlines_.Set(Wait::kSequenceStarted, sequence->ordinal, now_ + config_.min_round_timeout);
      }
    }
  }
}

// A round that is started may preempt, which gives someone a place to look for, and may find a draft late,
// which frees other verifiers of waiting for it: so until nothing is left. Each verifier has one round.
void Machine::Settle() {
  for (size_t i = 0;; ++i) {
    if (std::exchange(placing_, false)) PlaceWaiting();
    if (std::exchange(assigning_, false)) AssignDrafts();
    if (i == dirty_verifiers_.size()) break;
    Worker* verifier = dirty_verifiers_[i];
    verifier->dirty = false;
    if (!verifier->gone) MaybeStartRound(verifier);
  }
  dirty_verifiers_.clear();
}

void Machine::MarkDirty(Worker* verifier) {
  if (verifier->dirty) return;
  verifier->dirty = true;
  dirty_verifiers_.push_back(verifier);
}

void Machine::Observe(ObservationKind kind, absl::Duration value, int32_t count, bool has_prompt) {
  if (observations_.size() >= kMaxObservations) {
    ++counters_.observations_dropped;
    return;
  }
  observations_.push_back({kind, value, count, has_prompt});
}

std::vector<Observation> Machine::TakeObservations() { return std::exchange(observations_, {}); }

void Machine::Send(Worker* worker, WorkerCommand command) {
  Act(SendToWorker{worker->connection, worker->fence, std::move(command)});
}

Sequence* Machine::FindOrdinal(uint64_t ordinal) const {
  const auto found = sequences_.find(ordinal);
  CHECK(found != sequences_.end()) << "no live request " << ordinal;
  return found->second.get();
}

CoreHealth Machine::Health(absl::Time now) const {
  CoreHealth health;
  health.draining = draining_;
  // A round that is known to take long, a large model's on a slow device, is no stall.
  absl::Duration patience = config_.stall_timeout;
  for (const Worker* verifier : verifiers_) {
    health.has_verifier |= !verifier->draining;
    const std::optional<Round>& round = verifier->round;
    if (round.has_value()) patience = std::max(patience, 3 * round->predicted);
  }
  health.stalled = !sequences_.empty() && now - last_progress_ > patience;
  return health;
}

CoreGauges Machine::Gauges() const {
  CoreGauges gauges;
  for (const Worker* verifier : verifiers_) {
    gauges.num_requests_running += static_cast<int32_t>(verifier->live.size());
    gauges.kv_blocks_total += verifier->ledger.num_blocks();
    gauges.kv_blocks_reserved += verifier->ledger.used_blocks();
    gauges.kv_blocks_reported_free +=
        verifier->reported_blocks.free + verifier->reported_blocks.evictable;
  }
  gauges.num_requests_waiting =
      static_cast<int32_t>(sequences_.size()) - gauges.num_requests_running;
  for (const auto& [incarnation, worker] : workers_) {
    ++gauges.workers_attached[worker->role_index()];
    if (worker->draining) ++gauges.workers_draining[worker->role_index()];
  }
  gauges.drafts_late = num_drafts_late_;
  gauges.degraded = degraded_;
  return gauges;
}

std::vector<ConnectionId> Machine::LateDrafts() const {
  std::vector<ConnectionId> late;
  for (const Worker* draft : drafts_) {
    if (draft->late) late.push_back(draft->connection);
  }
  return late;
}

absl::Duration RolloutTimes::MedianPerDepth() const {
  if (num_ == 0) return absl::ZeroDuration();
  std::array<absl::Duration, kNum> times = times_;
  const int64_t num = std::min<int64_t>(num_, kNum);
  std::nth_element(times.begin(), times.begin() + num / 2, times.begin() + num);
  return times[num / 2];
}

const char* DegradedReasonName(DegradedReason reason) {
  switch (reason) {
    case DegradedReason::kDraftLate: return "draft_late";
    case DegradedReason::kDraftLost: return "draft_lost";
  }
  return "unknown";
}

const char* BranchMissReasonName(BranchMissReason reason) {
  switch (reason) {
    case BranchMissReason::kNotPredicted: return "not_predicted";
    case BranchMissReason::kNotDrafted: return "not_drafted";
    case BranchMissReason::kNotReady: return "not_ready";
  }
  return "unknown";
}

const char* RejectReasonName(RejectReason reason) {
  switch (reason) {
    case RejectReason::kInvalid: return "invalid";
    case RejectReason::kDuplicate: return "duplicate";
    case RejectReason::kVocabulary: return "vocabulary";
    case RejectReason::kQueueFull: return "queue_full";
    case RejectReason::kQueueTimeout: return "queue_timeout";
    case RejectReason::kNoVerifier: return "no_verifier";
    case RejectReason::kDraining: return "draining";
  }
  return "unknown";
}

}  // namespace mirrorsd::scheduler
