// Workers: attach, refuse, replace, fall silent, lie, leave.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {
namespace {

// Far beyond any machine; so that no sum of them overflows.
constexpr int32_t kMaxBlockTokens = 1 << 20;
constexpr int64_t kMaxBlocks = int64_t{1} << 40;

bool IsSameProcess(const Hello& a, const Hello& b) {
  return a.process_id != 0 && a.process_id == b.process_id && a.boot_id == b.boot_id;
}

}  // namespace

Worker* Machine::FindConnection(ConnectionId connection) const {
  const auto found = by_connection_.find(connection);
  return found == by_connection_.end() ? nullptr : found->second;
}

void Machine::HandleAttached(const WorkerAttached& event) {
  const Hello& hello = event.hello;
  const int role = hello.role == WorkerRole::kVerifier ? 0 : 1;
  if (Worker* same = FindConnection(event.connection)) {
    return CloseFaulty(same, "it said Hello twice");
  }
  if (std::optional<Refused> refused = CheckHello(hello)) {
    ++counters_.workers_refused[role];
    Act(RefuseWorker{event.connection, *std::move(refused)});
    return;
  }
  std::vector<Worker*>& peers = role == 0 ? verifiers_ : drafts_;
  const auto older = std::find_if(peers.begin(), peers.end(), [&](const Worker* worker) {
    return worker->hello.name == hello.name;
  });
  if (older != peers.end()) {
    // A restarted worker, whose old connection may be half open, gets in once the old one is quiet; a process
    // that dials again at once. Two that live would replace each other for ever.
    const bool alive = now_ - (*older)->heard_at < config_.worker_timeout / 2;
    if (alive && !IsSameProcess(hello, (*older)->hello)) {
      ++counters_.workers_refused[role];
      Act(RefuseWorker{event.connection,
                       Refused{"NAME_IN_USE",
                               absl::StrCat("a worker named ", hello.name, " is attached and alive"),
                               /*retryable=*/true}});
      return;
    }
    CloseLost(*older, "a newer worker of the same name attached");
  }

  if (role == 0 && verifiers_.empty() && sequences_.empty()) AdoptProfile(hello);

  auto worker = std::make_unique<Worker>();
  worker->connection = event.connection;
  worker->fence = {config_.scheduler_epoch, next_incarnation_++};
  worker->hello = hello;
  worker->heard_at = now_;
  worker->progress_at = now_;
  worker->first_sequence_id = next_sequence_id_;
  worker->reported_blocks = hello.blocks;
  worker->ledger = KvLedger(hello.kv_block_tokens, hello.blocks.total);
  worker->free_since = now_;
  deadlines_.Set(Wait::kWorkerSilent, worker->fence.incarnation, now_ + config_.worker_timeout);
  Act(WelcomeWorker{
      event.connection, Welcome{worker->fence.scheduler_epoch, worker->fence.incarnation}});
  ++counters_.workers_attached[role];
  peers.push_back(worker.get());
  by_connection_[event.connection] = worker.get();
  workers_[worker->fence.incarnation] = std::move(worker);
  if (role == 0) {
    last_progress_ = now_;
    placing_ = true;
  } else {
    num_drafts_missing_ = std::max(0, num_drafts_missing_ - 1);
    SetDegraded(DegradedReason::kDraftLost, num_drafts_missing_ > 0);
    assigning_ = true;
  }
}

std::optional<Refused> Machine::CheckHello(const Hello& hello) const {
  const auto refuse = [](absl::string_view reason, const std::string& message) {
    return Refused{std::string(reason), message, /*retryable=*/false};
  };
  if (hello.schema_revision != kSchemaRevision) {
    return refuse("SCHEMA_MISMATCH", absl::StrCat("schema revision ", hello.schema_revision,
                                                  ", the scheduler speaks ", kSchemaRevision));
  }
  const WorkerLimits& limits = hello.limits;
  if ((hello.role != WorkerRole::kVerifier && hello.role != WorkerRole::kDraft) ||
      hello.name.empty() || hello.context_length < 1 || hello.vocabulary_size < 1 ||
      hello.kv_block_tokens < 1 || limits.max_sequences < 1 || limits.max_rows < 1 ||
      limits.max_window < 0 || hello.blocks.total < 1 ||
      hello.kv_block_tokens > kMaxBlockTokens || hello.blocks.total > kMaxBlocks || hello.step_times.base_ns < 0 ||
      hello.step_times.per_row_ns < 0) {
    return refuse("INVALID_HELLO", "a role, name, length or limit in Hello cannot be");
  }
  // While nothing depends on a verifier, what the last one told binds nobody.
  const bool bound = profile_.has_value() && !(verifiers_.empty() && sequences_.empty());
  const std::string& vocabulary = !config_.vocabulary_fingerprint.empty()
                                      ? config_.vocabulary_fingerprint
                                      : bound ? profile_->vocabulary_fingerprint
                                              : hello.vocabulary_fingerprint;
  if (hello.vocabulary_fingerprint != vocabulary) {
    return refuse("VOCABULARY_MISMATCH",
                  absl::StrCat("vocabulary ", hello.vocabulary_fingerprint, " of ", hello.name,
                               ", the target's is ", vocabulary));
  }
  if (hello.role == WorkerRole::kDraft) return std::nullopt;
  return CheckVerifierHello(hello);
}

std::optional<Refused> Machine::CheckVerifierHello(const Hello& hello) const {
  const auto refuse = [](const std::string& message) {
    return Refused{"MODEL_MISMATCH", message, /*retryable=*/false};
  };
  if (!config_.model_fingerprint.empty() && hello.model_fingerprint != config_.model_fingerprint) {
    return refuse(absl::StrCat("model ", hello.model_fingerprint, ", this cell serves ",
                               config_.model_fingerprint));
  }
  if (!profile_.has_value() || (verifiers_.empty() && sequences_.empty())) return std::nullopt;
  if (hello.model_fingerprint != profile_->model_fingerprint) {
    return refuse(absl::StrCat("model ", hello.model_fingerprint, ", this cell serves ",
                               profile_->model_fingerprint));
  }
  if (hello.context_length != profile_->context_length ||
      hello.vocabulary_size != profile_->vocabulary_size) {
    return refuse(absl::StrCat("context length ", hello.context_length, " and vocabulary size ",
                               hello.vocabulary_size, ", this cell's are ",
                               profile_->context_length, " and ", profile_->vocabulary_size));
  }
  return std::nullopt;
}

void Machine::AdoptProfile(const Hello& hello) {
  profile_ = hello;
  const std::vector<Worker*> drafts = drafts_;
  for (Worker* draft : drafts) {
    if (draft->hello.vocabulary_fingerprint == hello.vocabulary_fingerprint) continue;
    ++counters_.workers_refused[1];
    Act(RefuseWorker{
        draft->connection,
        Refused{"VOCABULARY_MISMATCH",
                absl::StrCat("vocabulary ", draft->hello.vocabulary_fingerprint, " of ",
                             draft->hello.name, ", the target's is ", hello.vocabulary_fingerprint),
                /*retryable=*/false}});
    draft->draining = true;  // we ended it: not a loss
    RemoveWorker(draft);
  }
}

void Machine::CloseFaulty(Worker* worker, absl::string_view what) {
  ++counters_.workers_faulty[worker->role_index()];
  CloseLost(worker, absl::StrCat("faulty: ", what));
}

void Machine::CloseLost(Worker* worker, absl::string_view why) {
  Act(CloseWorker{worker->connection, std::string(why)});
  RemoveWorker(worker);
}

void Machine::RemoveWorker(Worker* worker) {
  const uint64_t incarnation = worker->fence.incarnation;
  const bool lost = !worker->draining || !worker->live.empty();
  worker->gone = true;
  by_connection_.erase(worker->connection);
  std::vector<Worker*>& peers = worker->is_verifier() ? verifiers_ : drafts_;
  peers.erase(std::find(peers.begin(), peers.end(), worker));
  for (const Wait wait : {Wait::kWorkerSilent, Wait::kRound}) deadlines_.Clear(wait, incarnation);
  for (int32_t i = 0; i < kNumCohorts; ++i) StopWaiting(worker, i);
  for (const SequenceId id : worker->ending) {
    deadlines_.Clear(Wait::kSequenceEnded, id);
    ending_.erase(id);
  }
  if (worker->late) MarkLate(worker, false);
  if (worker->is_verifier()) CountAbsence(*worker);
  const std::map<uint64_t, Sequence*> live = worker->live;
  for (const auto& [ordinal, sequence] : live) {
    if (worker->is_verifier()) {
      HoldForVerifier(sequence);
    } else {
      LeaveDraft(sequence, /*tell=*/false);
      WantDraft(sequence);
    }
  }
  if (lost) {
    ++counters_.workers_lost[worker->role_index()];
    if (!worker->is_verifier()) {
      ++num_drafts_missing_;
      SetDegraded(DegradedReason::kDraftLost, true);
    }
  }
  const auto found = workers_.find(incarnation);
  gone_workers_.push_back(std::move(found->second));
  workers_.erase(found);
}

void Machine::HandleWorkerSilent(Worker* worker) {
  if (now_ - worker->heard_at >= config_.worker_timeout) {
    return CloseLost(worker, "no heartbeat within the worker timeout");
  }
  deadlines_.Set(Wait::kWorkerSilent, worker->fence.incarnation,
                 worker->heard_at + config_.worker_timeout);
}

void Machine::HandleWorkerDrain(Worker* worker) {
  if (worker->draining) return;
  if (worker->is_verifier()) {
    CountAbsence(*worker);
    placing_ = true;  // who waited for room there may go elsewhere
  }
  worker->draining = true;
}

void Machine::SetDegraded(DegradedReason reason, bool degraded) {
  const int index = static_cast<int>(reason);
  if (degraded && !degraded_[index]) ++counters_.degraded_total[index];
  degraded_[index] = degraded;
}

bool Machine::TakeBlocks(Worker* worker, const KvBlocks& blocks) {
  if (blocks.total < 0 || blocks.free < 0 || blocks.evictable < 0 ||
      blocks.free > blocks.total || blocks.evictable > blocks.total - blocks.free) {
    CloseFaulty(worker, "its KV blocks do not add up");
    return false;
  }
  worker->reported_blocks = blocks;
  return true;
}

}  // namespace mirrorsd::scheduler
