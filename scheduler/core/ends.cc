// The one end of a request, and what it held at the workers.

#include <utility>

#include "common/check.h"
#include "common/error.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {

void Machine::Finish(Sequence* sequence, Committed committed) {
  CHECK(committed.finish != FinishReason::kNone);
  ++counters_.requests_finished;
  Observe(ObservationKind::kEndToEnd, now_ - sequence->submitted_at);
  if (const int32_t num_later = sequence->num_output_tokens() - 1; num_later > 0) {
    Observe(ObservationKind::kTimePerOutputToken, (now_ - sequence->first_token_at) / num_later);
  }
  Act(CommitTokens{sequence->stream, std::move(committed)});
  Remove(sequence);
}

void Machine::Fail(Sequence* sequence, const absl::Status& status) {
  ++counters_.requests_failed;
  Act(FailRequest{sequence->stream, status});
  Remove(sequence);
}

void Machine::HandleCancelled(const Cancelled& event) {
  const auto found = by_stream_.find(event.stream);
  if (found == by_stream_.end()) return;  // it had its end already
  Sequence* sequence = found->second;
  ++counters_.requests_cancelled;
  Act(FailRequest{
      sequence->stream, MakeError(absl::StatusCode::kCancelled, "the client cancelled the request",
                                  {.reason = "CANCELLED"})});
  Remove(sequence);
}

void Machine::Remove(Sequence* sequence) {
  placing_ |= sequence->queued;  // the next in line may fit where this one did not
  Dequeue(sequence);
  LeaveVerifier(sequence, /*tell=*/true);
  LeaveDraft(sequence, /*tell=*/true);
  for (const Wait wait : {Wait::kRequestDeadline, Wait::kVerifier, Wait::kRetryVerifier,
                          Wait::kRetryDraft}) {
    deadlines_.Clear(wait, sequence->ordinal);
  }
  undrafted_.erase(sequence->ordinal);
  by_stream_.erase(sequence->stream);
  by_request_id_.erase(sequence->request_id);
  const auto found = sequences_.find(sequence->ordinal);
  gone_sequences_.push_back(std::move(found->second));
  sequences_.erase(found);
}

// `tell`: the worker is still there and holds the sequence until its SequenceEnded.
void Machine::LeaveVerifier(Sequence* sequence, bool tell) {
  Worker* verifier = sequence->verifier;
  if (verifier == nullptr) return;
  StopAwaiting(sequence);
  Cohort& cohort = verifier->CohortOf(*sequence);
  if (sequence->item_index >= 0) {
    verifier->round->items[sequence->item_index].sequence = nullptr;
    sequence->item_index = -1;
  }
  if (sequence->stage == Stage::kPrefilling) cohort.prefilling.erase(sequence->position);
  if (sequence->stage == Stage::kDecoding) cohort.decoding.erase(sequence->position);
  --cohort.num_sequences;
  deadlines_.Clear(Wait::kSequenceStarted, sequence->ordinal);
  if (tell) {
    EndLease(verifier, sequence->verifier_id, sequence);
    MarkDirty(verifier);
  }
  sequence->kv = {};
  sequence->stage = Stage::kWaiting;
  sequence->verifier = nullptr;
  sequence->verifier_id = 0;
  sequence->decided_round = 0;
}

void Machine::LeaveDraft(Sequence* sequence, bool tell) {
  Drafting& draft = sequence->draft;
  if (draft.worker == nullptr) return;
  StopAwaiting(sequence);
  if (tell) EndLease(draft.worker, draft.id, sequence);
  draft = Drafting{.retry_pending = draft.retry_pending};
}

// Tells the worker; the lease stays until SequenceEnded, but not for ever.
void Machine::EndLease(Worker* worker, SequenceId id, Sequence* sequence) {
  Lease& lease = worker->leases.at(id);
  lease.sequence = nullptr;
  if (worker->is_verifier()) {
    lease.kv = sequence->kv;
    worker->ledger.BeginClose(&lease.kv);
  }
  worker->live.erase(sequence->ordinal);
  worker->ending.insert(id);
  ending_[id] = worker->fence.incarnation;
  deadlines_.Set(Wait::kSequenceEnded, id, now_ + config_.end_timeout);
  Send(worker, EndSequence{id});
}

void Machine::CloseLease(Worker* worker, SequenceId id) {
  const auto found = worker->leases.find(id);
  CHECK(found != worker->leases.end());
  if (worker->is_verifier()) worker->ledger.Close(found->second.kv);
  worker->leases.erase(found);
  worker->ending.erase(id);
  ending_.erase(id);
  deadlines_.Clear(Wait::kSequenceEnded, id);
  if (worker->is_verifier()) {
    placing_ = true;
    MarkDirty(worker);  // a round may have waited for the blocks
  } else {
    worker->pool_full = false;
    assigning_ = true;
  }
}

}  // namespace mirrorsd::scheduler
