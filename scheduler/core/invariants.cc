// What must hold between any two steps. Linear in everything that lives: called by tests after every step.

#include "common/check.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {
namespace {

void CheckSequence(const Sequence& sequence, const Deadlines& deadlines) {
  CHECK_GE(sequence.prompt_length, 1);
  CHECK_GE(sequence.committed_length(), sequence.prompt_length);
  CHECK_GE(sequence.remaining_tokens(), 1) << "it should have ended";
  CHECK_EQ(sequence.verifier == nullptr, sequence.stage == Stage::kWaiting);
  // Every wait has a deadline.
  if (sequence.stage == Stage::kWaiting) {
    CHECK(deadlines.Has(Wait::kVerifier, sequence.ordinal));
    CHECK(sequence.queued || deadlines.Has(Wait::kRetryVerifier, sequence.ordinal));
  }
  if (sequence.stage == Stage::kStarting) {
    CHECK(deadlines.Has(Wait::kSequenceStarted, sequence.ordinal));
  }
  if (sequence.stage != Stage::kWaiting) {
    CHECK(!sequence.queued && !sequence.verifier->gone);
    const auto lease = sequence.verifier->leases.find(sequence.verifier_id);
    CHECK(lease != sequence.verifier->leases.end() && lease->second.sequence == &sequence);
  }
  const Drafting& draft = sequence.draft;
  if (draft.worker != nullptr) {
    CHECK(!draft.worker->gone && !draft.retry_pending);
    const auto lease = draft.worker->leases.find(draft.id);
    CHECK(lease != draft.worker->leases.end() && lease->second.sequence == &sequence);
    CHECK_LE(draft.kv_length, sequence.committed_length());
  }
  const HypothesisTree& tree = draft.tree;
  int32_t num_answered = 0;
  for (const Branch& branch : tree.branches) {
    CHECK_LE(static_cast<int32_t>(branch.tokens.size()), branch.num_received);
    CHECK_LE(branch.num_received, tree.depth);
    num_answered += branch.answered;
  }
  CHECK_EQ(tree.num_answered, num_answered);
  for (const int32_t num : tree.own_roots) CHECK_GE(num, 0);
  if (sequence.stage == Stage::kWaiting) CHECK_EQ(sequence.kv.limit, 0);
  if (tree.awaited) {
    CHECK(sequence.stage == Stage::kDecoding && sequence.item_index < 0);
    CHECK(draft.worker != nullptr && !draft.worker->late);
    CHECK_EQ(tree.round_id, sequence.decided_round);
    CHECK(std::any_of(tree.branches.begin(), tree.branches.end(), [&](const Branch& branch) {
      return !branch.answered && branch.num_accepted == sequence.decided_accepted &&
             branch.root_token == sequence.tokens.back();
    }));
  }
  if (draft.retry_pending) CHECK(deadlines.Has(Wait::kRetryDraft, sequence.ordinal));
}

void CheckRound(const Round& round, const Hello& hello) {
  CHECK(!round.items.empty());
  CHECK_LE(round.num_rows, hello.limits.max_rows);
  int32_t num_done = 0;
  for (size_t i = 0; i < round.items.size(); ++i) {
    const RoundItem& item = round.items[i];
    num_done += item.done;
    CHECK(item.exit_rows.empty() || item.exit_rows.size() == item.window.size() + 1 || item.done);
    CHECK_LE(static_cast<int32_t>(item.window.size()), hello.limits.max_window);
    if (item.done || item.sequence == nullptr) continue;
    CHECK_EQ(item.sequence->item_index, static_cast<int32_t>(i));
    CHECK_EQ(item.sequence->verifier_id, item.id);
    CHECK_LT(static_cast<int32_t>(item.window.size()), item.sequence->remaining_tokens());
    const int32_t reach = item.is_prefill
                              ? item.end
                              : item.committed_length + static_cast<int32_t>(item.window.size());
    CHECK_GE(item.sequence->kv.held, item.sequence->verifier->ledger.BlocksFor(reach));
  }
  CHECK_EQ(num_done, round.num_done);
}

void CheckCohort(const Worker& worker, int32_t cohort_index, const Deadlines& deadlines) {
  const Cohort& cohort = worker.cohorts[cohort_index];
  int32_t num_awaited = 0;
  size_t num_starting = 0;
  for (const auto& [id, sequence] : worker.live) {
    CHECK(sequence->verifier == &worker);
    if (sequence->cohort_index != cohort_index) continue;
    const HypothesisTree& tree = sequence->draft.tree;
    num_awaited += tree.awaited;
    if (tree.awaited) CHECK_GE(cohort.awaited_depth, tree.depth);
    num_starting += sequence->stage == Stage::kStarting;
  }
  for (const Sequence* sequence : cohort.prefilling) {
    CHECK(sequence->stage == Stage::kPrefilling && sequence->verifier == &worker);
    CHECK_EQ(sequence->cohort_index, cohort_index);
    CHECK_LT(sequence->prefilled_length, sequence->total_length);
    CHECK_GE(sequence->kv.held, worker.ledger.BlocksFor(sequence->prefilled_length));
    CHECK_EQ(sequence->kv.wanted, worker.ledger.BlocksFor(sequence->total_length));
  }
  for (const Sequence* sequence : cohort.decoding) {
    CHECK(sequence->stage == Stage::kDecoding && sequence->verifier == &worker);
    CHECK_EQ(sequence->cohort_index, cohort_index);
    CHECK_GE(sequence->kv.held, worker.ledger.BlocksFor(sequence->committed_length() - 1));
    CHECK_EQ(sequence->kv.held, sequence->kv.wanted);
    if (sequence->item_index >= 0) continue;
    CHECK_LE(sequence->kv.held, worker.ledger.BlocksFor(sequence->committed_length()));
  }
  CHECK_EQ(cohort.prefilling.size() + cohort.decoding.size() + num_starting,
           static_cast<size_t>(cohort.num_sequences));
  CHECK_EQ(cohort.num_awaited, num_awaited);
  if (cohort.waiting) {
    CHECK(!worker.round.has_value());
    CHECK(deadlines.Has(Wait::kDraftWindows,
                        worker.fence.incarnation * kNumCohorts + cohort_index));
  }
}

void CheckVerifier(const Worker& worker, const Deadlines& deadlines) {
  int32_t num_sequences = 0;
  for (int32_t i = 0; i < kNumCohorts; ++i) {
    CheckCohort(worker, i, deadlines);
    num_sequences += worker.cohorts[i].num_sequences;
  }
  CHECK_EQ(static_cast<size_t>(num_sequences), worker.live.size());
  // A free verifier with something to do waits for windows or for the blocks of sequences that end, each
  // with a deadline, and for nothing else. A cohort may lack the blocks that the other one holds.
  const auto& cohorts = worker.cohorts;
  if (!worker.round.has_value() &&
      std::any_of(cohorts.begin(), cohorts.end(), [](const Cohort& cohort) {
        return !cohort.prefilling.empty() || !cohort.decoding.empty();
      })) {
    CHECK(worker.ledger.closing_blocks() > 0 ||
          std::any_of(cohorts.begin(), cohorts.end(), [](const Cohort& cohort) {
            return cohort.waiting && cohort.num_awaited > 0;
          }));
  }
  CHECK_EQ(worker.round.has_value(), deadlines.Has(Wait::kRound, worker.fence.incarnation));
  if (worker.round.has_value()) CheckRound(*worker.round, worker.hello);
}

void AddShare(const KvShare& share, KvShare* sum) {
  CHECK(0 <= share.held && share.held <= share.wanted && share.wanted <= share.limit);
  sum->held += share.held;
  sum->wanted += share.wanted;
  sum->limit += share.limit;
}

void CheckLeases(const Worker& worker, const Deadlines& deadlines) {
  KvShare sum;
  int64_t closing = 0;
  CHECK_EQ(worker.leases.size(), worker.live.size() + worker.ending.size());
  for (const auto& [ordinal, sequence] : worker.live) {
    CHECK_EQ(ordinal, sequence->ordinal);
    const bool verifier = worker.is_verifier();
    const Lease& lease = worker.leases.at(verifier ? sequence->verifier_id : sequence->draft.id);
    CHECK(lease.sequence == sequence);
    if (verifier) AddShare(sequence->kv, &sum);
  }
  for (const SequenceId id : worker.ending) {
    const Lease& lease = worker.leases.at(id);
    CHECK(lease.sequence == nullptr);
    CHECK(deadlines.Has(Wait::kSequenceEnded, id));
    AddShare(lease.kv, &sum);
    closing += lease.kv.held;
  }
  CHECK_LE(static_cast<int32_t>(worker.leases.size()), worker.hello.limits.max_sequences);
  if (worker.is_verifier()) {
    CHECK_EQ(worker.ledger.used_blocks(), sum.held);
    CHECK_EQ(worker.ledger.wanted_blocks(), sum.wanted);
    CHECK_EQ(worker.ledger.limit_blocks(), sum.limit);
    CHECK_EQ(worker.ledger.closing_blocks(), closing);
    CHECK_EQ(worker.ledger.num_shares(), static_cast<int64_t>(worker.leases.size()));
    CHECK_LE(sum.held, worker.ledger.num_blocks());
  }
}

}  // namespace

void Machine::CheckInvariants() const {
  CHECK(dirty_verifiers_.empty() && !placing_ && !assigning_);
  CHECK_EQ(by_stream_.size(), sequences_.size());
  CHECK_EQ(by_request_id_.size(), sequences_.size());
  CHECK_EQ(by_connection_.size(), workers_.size());
  CHECK_EQ(verifiers_.size() + drafts_.size(), workers_.size());
  size_t num_queued = 0;
  int32_t num_queued_new = 0;
  for (const auto& [ordinal, sequence] : sequences_) {
    CheckSequence(*sequence, deadlines_);
    num_queued += sequence->queued;
    num_queued_new += sequence->queued && !sequence->was_placed;
    const auto undrafted = undrafted_.find(ordinal);
    if (undrafted != undrafted_.end()) CHECK(sequence->draft.worker == nullptr);
  }
  for (const auto& [numerics, line] : waiting_) num_queued -= line.size();
  CHECK_EQ(num_queued, size_t{0});
  CHECK_EQ(num_queued_new, num_queued_new_);
  CHECK_LE(num_queued_new_, std::max(config_.max_queued, 0));
  size_t num_ending = 0;
  int32_t num_late = 0;
  for (const auto& [incarnation, worker] : workers_) {
    CHECK(!worker->gone);
    CHECK(deadlines_.Has(Wait::kWorkerSilent, incarnation));
    CheckLeases(*worker, deadlines_);
    if (worker->is_verifier()) CheckVerifier(*worker, deadlines_);
    num_ending += worker->ending.size();
    num_late += worker->late;
  }
  CHECK_EQ(num_ending, ending_.size());
  CHECK_EQ(num_late, num_drafts_late_);
  CHECK_EQ(degraded_[static_cast<int>(DegradedReason::kDraftLate)], num_late > 0);
}

}  // namespace mirrorsd::scheduler
