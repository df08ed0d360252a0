// Windows for the next round: which sequences are drafted for and how deep, what the drafts answer, and
// which draft-worker a sequence sticks to. Nothing here can change a token.

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/types/span.h"
#include "common/check.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {
namespace {

constexpr absl::Duration kDraftRetryPause = absl::Seconds(1);

}  // namespace

// A round has ended: asks the policies for the windows of the whole cohort and the drafts for their tokens.
void Machine::DecideWindows(Worker* verifier) {
  windows_.clear();
  for (const SpeculationPolicy& policy : config_.policies) {
    if (policy.mode == SpeculationMode::kOff) continue;  // nothing to draft, whatever it is called
    AskPolicy(verifier, policy);
  }
  // Rows are shared: the largest common cap under which every sequence has its rows.
  const int64_t num_rows = verifier->hello.limits.max_rows - ChunkReserve(*verifier) -
                           static_cast<int64_t>(verifier->cohort.decoding.size());
  int32_t cap = 0;
  for (const auto& [sequence, window] : windows_) cap = std::max(cap, window);
  const auto total = [this](int32_t limit) {
    int64_t rows = 0;
    for (const auto& [sequence, window] : windows_) rows += std::min(window, limit);
    return rows;
  };
  if (total(cap) > num_rows) {
    int32_t low = 0;
    while (low < cap) {
      const int32_t middle = cap - (cap - low) / 2;
      if (total(middle) > num_rows) {
        cap = middle - 1;
      } else {
        low = middle;
      }
    }
  }
  for (const auto& [sequence, window] : windows_) {
    if (std::min(window, cap) > 0) StartRollout(sequence, std::min(window, cap));
  }
}

// Appends to windows_ what the policy decides for the sequences that can be drafted for now.
void Machine::AskPolicy(Worker* verifier, const SpeculationPolicy& policy) {
  asked_.clear();
  outlooks_.clear();
  CohortOutlook cohort;
  const StepTimes& verify = verifier->hello.step_times;
  cohort.verify_base = absl::Nanoseconds(verify.base_ns);
  cohort.verify_per_row = absl::Nanoseconds(verify.per_row_ns);
  for (Sequence* sequence : verifier->cohort.decoding) {
    if (sequence->policy != &policy) continue;
    const Worker* draft = sequence->draft.worker;
    asked_.push_back(sequence);
    outlooks_.push_back({sequence->remaining_tokens(), sequence->requested_window,
                         sequence->stats.drafted_tokens, sequence->stats.accepted_tokens,
                         draft != nullptr && sequence->draft.state == DraftSequenceState::kReady});
    if (draft == nullptr || cohort.draft_base != absl::ZeroDuration()) continue;
    cohort.draft_base = absl::Nanoseconds(draft->hello.step_times.base_ns);
    cohort.draft_per_row = absl::Nanoseconds(draft->hello.step_times.per_row_ns);
  }
  if (asked_.empty()) return;
  cohort.num_sequences = static_cast<int32_t>(asked_.size());
  decisions_.assign(asked_.size(), PolicyDecision{});
  policy.decide(cohort, outlooks_, absl::MakeSpan(decisions_));
  const KvLedger& ledger = verifier->ledger;  // what would find no blocks is not drafted
  for (size_t i = 0; i < asked_.size(); ++i) {
    Sequence* sequence = asked_[i];
    const Rollout& rollout = sequence->draft.rollout;
    const bool has_one = rollout.round_id != 0 && rollout.round_id == sequence->decided_round;
    // A late draft is asked again only when it has answered: its queue does not grow.
    const bool busy = sequence->draft.worker != nullptr && sequence->draft.worker->late &&
                      !rollout.answered;
    const int64_t room = ledger.Reach(sequence->kv, ledger.spare_blocks()) -
                         sequence->committed_length();
    const int32_t window = static_cast<int32_t>(
        std::min<int64_t>(room, std::min(decisions_[i].window, WindowCap(*sequence))));
    if (outlooks_[i].draft_ready && !has_one && !busy && window > 0) {
      windows_.emplace_back(sequence, window);
    }
  }
}

int32_t Machine::WindowCap(const Sequence& sequence) const {
  const Worker* draft = sequence.draft.worker;
  const WorkerLimits& verifier = sequence.verifier->hello.limits;
  if (draft == nullptr) return 0;
  return std::max(0, std::min({sequence.remaining_tokens() - 1, verifier.max_window,
                               verifier.max_rows - 1, draft->hello.limits.max_window,
                               draft->hello.context_length - sequence.committed_length()}));
}

void Machine::StartRollout(Sequence* sequence, int32_t depth) {
  Drafting& draft = sequence->draft;
  StopAwaiting(sequence);
  Rollout& rollout = draft.rollout;
  rollout.round_id = sequence->decided_round;
  rollout.num_accepted = sequence->decided_accepted;
  rollout.root_token = sequence->tokens.back();
  rollout.depth = depth;
  rollout.path_length = sequence->decided_length;
  rollout.sent_at = now_;
  rollout.num_received = 0;
  rollout.tokens.clear();
  rollout.answered = false;
  rollout.awaited = !draft.worker->late;
  if (rollout.awaited) {
    Cohort& cohort = sequence->verifier->cohort;
    ++cohort.num_awaited;
    cohort.awaited_depth = std::max(cohort.awaited_depth, depth);
  }

  // The draft may drop what it holds beyond the path, so no more counts as acknowledged.
  const int32_t path_offset = std::min(draft.kv_length, sequence->decided_length);
  draft.kv_length = path_offset;
  mirrorsd::StartRollout command;
  command.sequence_id = draft.id;
  command.round_id = rollout.round_id;
  command.committed_length = sequence->decided_length;
  command.path_offset = path_offset;
  command.path_tokens.assign(sequence->tokens.begin() + path_offset,
                             sequence->tokens.begin() + sequence->decided_length);
  command.window = sequence->decided_window;
  command.roots.push_back({rollout.num_accepted, rollout.root_token, -1});
  command.depth = depth;
  Send(draft.worker, std::move(command));
}

// What there is of the window when the round starts; a straggler's first depths are as good as any.
std::vector<TokenId> Machine::TakeWindow(Sequence* sequence, int32_t max_window) {
  const Rollout& rollout = sequence->draft.rollout;
  if (sequence->decided_round == 0 || rollout.round_id != sequence->decided_round) return {};
  const int32_t size = std::min({static_cast<int32_t>(rollout.tokens.size()), max_window,
                                 WindowCap(*sequence)});
  if (size <= 0) return {};
  return {rollout.tokens.begin(), rollout.tokens.begin() + size};
}

void Machine::StopAwaiting(Sequence* sequence) {
  Rollout& rollout = sequence->draft.rollout;
  if (!rollout.awaited) return;
  rollout.awaited = false;
  if (--sequence->verifier->cohort.num_awaited == 0) MarkDirty(sequence->verifier);
}

// The last progress of the sequence's rollout came, in time or not.
void Machine::FinishRollout(Sequence* sequence) {
  Worker* draft = sequence->draft.worker;
  Rollout& rollout = sequence->draft.rollout;
  rollout.answered = true;
  const absl::Duration duration = now_ - rollout.sent_at;
  Observe(ObservationKind::kDraftRollout, duration);
  if (rollout.awaited) draft->num_missed = 0;
  if (Worker* verifier = sequence->verifier) {
    verifier->cohort.rollout_times.Add(duration, rollout.depth);
    if (draft->late && duration <= DraftWait(*verifier, rollout.depth)) MarkLate(draft, false);
  }
  StopAwaiting(sequence);
}

// A draft may beat and yet compute nothing. Rollouts have their deadlines; this is for catch-up, which
// nobody waits for: without it such a draft would cost all speculation, unseen.
void Machine::WatchDraft(Worker* draft, const Heartbeat& beat) {
  const auto behind = [](const auto& entry) {
    return entry.second->draft.state == DraftSequenceState::kCatchingUp;
  };
  // One that owes nothing, and answered whatever it was told, is as good as a new one.
  if (draft->late && draft->leases.empty() && !draft->mute) MarkLate(draft, false);
  if (beat.num_rounds_done != draft->num_depths_done ||
      std::none_of(draft->live.begin(), draft->live.end(), behind)) {
    draft->num_depths_done = beat.num_rounds_done;
    draft->progress_at = now_;
  } else if (now_ - draft->progress_at >= config_.stall_timeout) {
    MarkLate(draft, true);
  }
}

void Machine::MarkLate(Worker* draft, bool late) {
  if (draft->late == late) return;
  draft->late = late;
  draft->num_missed = 0;
  num_drafts_late_ += late ? 1 : -1;
  SetDegraded(DegradedReason::kDraftLate, num_drafts_late_ > 0);
  if (!late) return;
  for (const auto& [id, sequence] : draft->live) StopAwaiting(sequence);
}

void Machine::WantDraft(Sequence* sequence) {
  const Drafting& draft = sequence->draft;
  if (!sequence->speculation_on || draft.worker != nullptr || draft.retry_pending) return;
  undrafted_[sequence->ordinal] = sequence;
  assigning_ = true;
}

void Machine::RetryDraftLater(Sequence* sequence) {
  sequence->draft.retry_pending = true;
  deadlines_.Set(Wait::kRetryDraft, sequence->ordinal, now_ + kDraftRetryPause);
}

void Machine::AssignDrafts() {
  for (auto next = undrafted_.begin(); next != undrafted_.end();) {
    Sequence* sequence = (next++)->second;
    bool any_room = false;
    Worker* draft = FindDraft(*sequence, &any_room);
    if (!any_room) return;
    if (draft != nullptr) Assign(sequence, draft);
  }
}

// The least loaded one that keeps its deadlines; the one that attached first among equals.
Worker* Machine::FindDraft(const Sequence& sequence, bool* any_room) const {
  Worker* best = nullptr;
  const auto load = [](const Worker* draft) {
    return std::make_pair(draft->late, draft->live.size());
  };
  for (Worker* draft : drafts_) {
    if (draft->draining || draft->pool_full ||
        static_cast<int32_t>(draft->leases.size()) >= draft->hello.limits.max_sequences) {
      continue;
    }
    *any_room = true;
    if (sequence.committed_length() >= draft->hello.context_length) continue;
    if (best == nullptr || load(draft) < load(best)) best = draft;
  }
  return best;
}

void Machine::Assign(Sequence* sequence, Worker* draft) {
  undrafted_.erase(sequence->ordinal);
  sequence->draft = Drafting{.worker = draft,
                             .id = OpenLease(draft, sequence),
                             .state = DraftSequenceState::kCatchingUp};
  SendTokens(draft, sequence->draft.id, *sequence);
}

}  // namespace mirrorsd::scheduler
