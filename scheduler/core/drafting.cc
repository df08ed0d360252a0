// Which draft-worker a sequence sticks to, and whether that worker keeps its deadlines. Nothing here can change
// a token.

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {
namespace {

constexpr absl::Duration kDraftRetryPause = absl::Seconds(1);

}  // namespace

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
