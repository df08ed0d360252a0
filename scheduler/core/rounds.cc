// The loop of one verifier: wait for windows, start a round, take its outcome.

#include <algorithm>
#include <utility>

#include "absl/types/span.h"
#include "common/check.h"
#include "scheduler/core/commit.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {

// Cohorts take turns; one whose windows are there need not wait for one whose are not.
void Machine::MaybeStartRound(Worker* verifier) {
  const int32_t last = verifier->last_cohort;
  for (int32_t i = 1; i <= kNumCohorts && !verifier->round.has_value(); ++i) {
    const int32_t cohort_index = (last + i) % kNumCohorts;
    const Cohort& cohort = verifier->cohorts[cohort_index];
    if (cohort.prefilling.empty() && cohort.decoding.empty()) {
      StopWaiting(verifier, cohort_index);  // for windows of sequences that have left
      continue;
    }
    if (!MustWaitForWindows(verifier, cohort_index)) StartRound(verifier, cohort_index);
  }
}

bool Machine::MustWaitForWindows(Worker* verifier, int32_t cohort_index) {
  Cohort& cohort = verifier->cohorts[cohort_index];
  if (cohort.num_awaited == 0) return false;
  const uint64_t id = verifier->fence.incarnation * kNumCohorts + cohort_index;
  if (cohort.waiting) return deadlines_.Has(Wait::kDraftWindows, id);
  const absl::Time until = verifier->free_since + DraftWait(*verifier, cohort.awaited_depth);
  if (until <= now_) return false;
  cohort.waiting = true;
  deadlines_.Set(Wait::kDraftWindows, id, until);
  return true;
}

void Machine::StopWaiting(Worker* verifier, int32_t cohort_index) {
  if (!std::exchange(verifier->cohorts[cohort_index].waiting, false)) return;
  deadlines_.Clear(Wait::kDraftWindows,
                   verifier->fence.incarnation * kNumCohorts + cohort_index);
}

// How long a cohort waits for its windows, the longest of `depth` tokens, from the moment the verifier is free.
absl::Duration Machine::DraftWait(const Worker& verifier, int32_t depth) const {
  constexpr int kEnoughSamples = 8;
  absl::Duration typical = std::max(depth, 1) * verifier.rollout_times.MedianPerDepth();
  if (verifier.rollout_times.num() < kEnoughSamples) {
    // What the drafts measured at their start stands in until there are rollouts to go by.
    for (const auto& [ordinal, sequence] : verifier.live) {
      if (!sequence->draft.tree.awaited) continue;
      const StepTimes& times = sequence->draft.worker->hello.step_times;
      const int32_t num_others = verifier.CohortOf(*sequence).num_awaited - 1;
      const absl::Duration step =
          absl::Nanoseconds(times.base_ns) + num_others * absl::Nanoseconds(times.per_row_ns);
      typical = std::max(typical, sequence->draft.tree.depth * step);
    }
  }
  return std::clamp(2 * typical, config_.min_draft_wait, config_.max_draft_wait);
}

// The wait is over and windows are missing: each draft-worker that owes one has missed one deadline.
void Machine::CountMissedDeadlines(Worker* verifier, const Round& round) {
  const Cohort& cohort = verifier->cohorts[round.cohort_index];
  for (Sequence* sequence : cohort.decoding) {
    if (!sequence->draft.tree.awaited) continue;
    Worker* draft = sequence->draft.worker;
    StopAwaiting(sequence);
    CountMissedDeadline(draft, round.id);
  }
  CHECK_EQ(cohort.num_awaited, 0);
}

// One a round, however many of its sequences are owed something.
void Machine::CountMissedDeadline(Worker* draft, RoundId round_id) {
  if (draft->missed_round == round_id) return;
  draft->missed_round = round_id;
  ++counters_.draft_deadlines_missed;
  if (++draft->num_missed >= config_.max_missed_deadlines && !draft->late) MarkLate(draft, true);
}

void Machine::StartRound(Worker* verifier, int32_t cohort_index) {
  Cohort& cohort = verifier->cohorts[cohort_index];
  Round round;
  round.id = next_round_id_;
  round.cohort_index = cohort_index;
  round.started_at = now_;
  if (cohort.waiting) {
    StopWaiting(verifier, cohort_index);
    Observe(ObservationKind::kVerifierWaitForDraft, now_ - verifier->free_since);
  }
  if (cohort.num_awaited > 0) CountMissedDeadlines(verifier, round);
  cohort.awaited_depth = 0;

  const int32_t max_rows = verifier->hello.limits.max_rows;
  const int32_t chunk_reserve = ChunkReserve(*verifier, cohort);
  MakeRoom(verifier, cohort);
  AddDecoding(verifier, max_rows - chunk_reserve, &round);
  AddWindows(verifier, max_rows - chunk_reserve, &round);
  AddChunks(verifier, max_rows, &round);
  if (round.items.empty()) return;  // there is nothing to do, or blocks are on their way back
  PlanPrompts(*verifier, round);

  ++next_round_id_;
  StartVerify command{round.id, {}};
  command.items.reserve(round.items.size());
  const int64_t batch = static_cast<int64_t>(round.items.size());
  for (size_t i = 0; i < round.items.size(); ++i) {
    RoundItem& item = round.items[i];
    item.sequence->item_index = static_cast<int32_t>(i);
    item.sequence->stats.max_batch = std::max(item.sequence->stats.max_batch, batch);
    const bool yields_token = !item.is_prefill || item.end == item.committed_length;
    if (yields_token && CanBranch(*item.sequence)) {
      item.branch_top_k = item.sequence->plan.branch_top_k;
    }
    command.items.push_back({item.id, item.committed_length, item.is_prefill, item.begin, item.end,
                             item.window, item.branch_top_k});
  }
  round.predicted = PredictRound(*verifier, round.num_rows);
  deadlines_.Set(Wait::kRound, verifier->fence.incarnation, now_ + RoundLimit(round));
  verifier->round = std::move(round);
  verifier->last_cohort = cohort_index;
  // The others' wait begins anew when the verifier is free again.
  for (int32_t i = 0; i < kNumCohorts; ++i) StopWaiting(verifier, i);
  Send(verifier, std::move(command));
  PlantTrees(verifier);
}

// Rows kept for prompts while any wait, so that a full batch of windows cannot starve them.
int32_t Machine::ChunkReserve(const Worker& verifier, const Cohort& cohort) const {
  if (cohort.prefilling.empty()) return 0;
  const int32_t max_rows = verifier.hello.limits.max_rows;
  return std::min({config_.max_prefill_rows_per_round, std::max(1, max_rows / 4), max_rows - 1});
}

// One row for each, those longest without a round first; where the rows do not suffice for all, they take
// turns. Who has no block for it keeps its turn.
void Machine::AddDecoding(Worker* verifier, int32_t max_rows, Round* round) {
  Cohort& cohort = verifier->cohorts[round->cohort_index];
  std::list<Sequence*>& decoding = cohort.decoding;
  KvLedger& ledger = verifier->ledger;
  round->items.reserve(decoding.size() + cohort.prefilling.size());
  auto next = decoding.begin();
  for (size_t left = decoding.size(); left > 0 && round->num_rows < max_rows; --left) {
    const auto position = next++;
    Sequence* sequence = *position;
    const int32_t length = sequence->committed_length();
    if (ledger.Missing(sequence->kv, length) > ledger.free_blocks()) continue;
    ledger.Grow(&sequence->kv, length);
    decoding.splice(decoding.end(), decoding, position);
    RoundItem item;
    item.id = sequence->verifier_id;
    item.sequence = sequence;
    item.committed_length = length;
    ++round->num_rows;
    round->items.push_back(std::move(item));
  }
}

// What rows and blocks are left. Windows leave those that a prompt waits for: they shrink first.
void Machine::AddWindows(Worker* verifier, int32_t max_rows, Round* round) {
  KvLedger& ledger = verifier->ledger;
  for (RoundItem& item : round->items) {
    Sequence* sequence = item.sequence;
    const int64_t room = ledger.Reach(sequence->kv, ledger.spare_blocks()) - item.committed_length;
    const int64_t most = std::min<int64_t>(max_rows - round->num_rows, room);
    TakeWindow(*sequence, static_cast<int32_t>(most), &item);
    const int32_t size = static_cast<int32_t>(item.window.size());
    ledger.Grow(&sequence->kv, item.committed_length + size);
    round->num_rows += size;
  }
}

// In order of arrival, as far as rows and blocks go.
void Machine::AddChunks(Worker* verifier, int32_t max_rows, Round* round) {
  KvLedger& ledger = verifier->ledger;
  int32_t budget = std::min(config_.max_prefill_rows_per_round, max_rows - round->num_rows);
  for (Sequence* sequence : verifier->cohorts[round->cohort_index].prefilling) {
    if (budget <= 0) return;
    const int32_t begin = sequence->prefilled_length;
    const int64_t room = ledger.Reach(sequence->kv, ledger.free_blocks()) - begin;
    const int32_t rows = static_cast<int32_t>(
        std::min<int64_t>(room, std::min(budget, sequence->total_length - begin)));
    if (rows <= 0) continue;
    ledger.Grow(&sequence->kv, begin + rows);
    RoundItem item;
    item.id = sequence->verifier_id;
    item.sequence = sequence;
    item.is_prefill = true;
    item.begin = begin;
    item.end = begin + rows;
    item.committed_length = sequence->total_length;
    budget -= rows;
    round->num_rows += rows;
    round->items.push_back(std::move(item));
  }
}

absl::Duration Machine::PredictRound(const Worker& verifier, int32_t num_rows) const {
  constexpr absl::Duration kLongest = absl::Minutes(10);  // whatever the verifier told of itself
  const StepTimes& times = verifier.hello.step_times;
  return std::min(kLongest, std::max(absl::Nanoseconds(times.base_ns) +
                                         (num_rows - 1) * absl::Nanoseconds(times.per_row_ns),
                                     verifier.recent_round));
}

absl::Duration Machine::RoundLimit(const Round& round) const {
  return std::max(10 * round.predicted, config_.min_round_timeout);
}

void Machine::ApplyOutcome(RoundItem* item, const VerifyItemDone& done) {
  Sequence* sequence = item->sequence;
  if (done.error.has_value()) return HandleItemError(sequence, *done.error);
  sequence->item_index = -1;
  if (item->is_prefill && item->end < item->committed_length) {
    sequence->prefilled_length = item->end;
    return;
  }
  CommitOutcome(item, done);
}

void Machine::CommitOutcome(RoundItem* item, const VerifyItemDone& done) {
  Sequence* sequence = item->sequence;
  Worker* verifier = sequence->verifier;
  const TokenId correction = *done.correction_token;
  LearnOutcome(*item, done);
  sequence->decided_round = verifier->round->id;
  sequence->decided_length = item->committed_length;
  sequence->decided_accepted = done.num_accepted;
  sequence->decided_window = std::move(item->window);
  const std::vector<TokenId>& window = sequence->decided_window;
  const int32_t window_size = static_cast<int32_t>(window.size());

  Committed committed;
  committed.token_ids.reserve(done.num_accepted + 1);
  committed.token_ids.assign(window.begin(), window.begin() + done.num_accepted);
  committed.token_ids.push_back(correction);
  const CommitCut cut =
      CutAtEnd(committed.token_ids, sequence->end_token_ids, sequence->remaining_tokens());
  committed.token_ids.resize(cut.num_tokens);
  committed.output_index = sequence->num_output_tokens();
  committed.finish = cut.finish;
  committed.queue_time = sequence->queue_time;

  const bool is_first = committed.output_index == 0;
  committed.origins.assign(cut.num_tokens, TokenOrigin::kAccepted);
  if (cut.num_tokens > done.num_accepted) {
    committed.origins.back() = is_first ? TokenOrigin::kPrefill
                               : done.num_accepted < window_size ? TokenOrigin::kRecovered
                                                                 : TokenOrigin::kBonus;
  }
  sequence->tokens.insert(sequence->tokens.end(), committed.token_ids.begin(),
                          committed.token_ids.end());
  verifier->ledger.Rest(&sequence->kv, sequence->committed_length());
  CountCommit(sequence, *item, done.num_accepted, cut.num_tokens);
  committed.stats = sequence->stats;
  if (item->is_prefill) {
    verifier->CohortOf(*sequence).prefilling.erase(sequence->position);
    std::list<Sequence*>& line = verifier->CohortOf(*sequence).decoding;
    sequence->position = line.insert(line.end(), sequence);
    sequence->stage = Stage::kDecoding;
  }
  if (cut.finish != FinishReason::kNone) return Finish(sequence, std::move(committed));
  Act(CommitTokens{sequence->stream, std::move(committed)});
}

// A round that starts a resumed request again counts as one with an empty window: it yields a token.
void Machine::CountCommit(Sequence* sequence, const RoundItem& item, int32_t num_accepted,
                          int32_t num_committed) {
  const int32_t window_size = static_cast<int32_t>(sequence->decided_window.size());
  sequence->num_retries = 0;
  sequence->num_losses = 0;
  counters_.tokens_generated += num_committed;
  if (sequence->num_output_tokens() == num_committed) {
    counters_.prompt_tokens += sequence->prompt_length;
    Observe(ObservationKind::kTimeToFirstToken, now_ - sequence->submitted_at);
    sequence->first_token_at = now_;
  } else {
    Observe(ObservationKind::kInterToken, (now_ - sequence->last_commit_at) / num_committed,
            num_committed);
    const int64_t drafted = sequence->stats.drafted_tokens;
    const int64_t accepted = sequence->stats.accepted_tokens;
    CountRound(window_size, num_accepted, num_committed, sequence->speculation_on,
               &sequence->stats);
    CountBranches(sequence, item);
    const int64_t num_accepted_now = sequence->stats.accepted_tokens - accepted;
    counters_.draft_tokens += sequence->stats.drafted_tokens - drafted;
    counters_.accepted_tokens += num_accepted_now;
    if (window_size > 0) ++counters_.num_drafts;
    if (window_size == 0 && sequence->speculation_on) ++counters_.empty_windows;
    std::vector<int64_t>& per_position = counters_.accepted_per_position;
    if (static_cast<int64_t>(per_position.size()) < num_accepted_now) {
      per_position.resize(num_accepted_now);
    }
    for (int64_t row = 0; row < num_accepted_now; ++row) ++per_position[row];
  }
  sequence->last_commit_at = now_;
}

// What the round began with, where branches were to be had.
void Machine::CountBranches(Sequence* sequence, const RoundItem& item) {
  SpeculationStats& stats = sequence->stats;
  if (item.source == WindowSource::kBranch) {
    ++stats.branch_hits;
    stats.branch_hit_depth_sum += item.depth;
    std::vector<int64_t>& per_depth = counters_.branch_hits_per_depth;
    if (static_cast<int32_t>(per_depth.size()) < item.depth) per_depth.resize(item.depth);
    ++per_depth[item.depth - 1];
  }
  if (item.miss.has_value()) {
    ++stats.branch_misses;
    ++counters_.branch_misses[static_cast<int>(*item.miss)];
  }
  if (item.source == WindowSource::kNgram) {
    ++stats.ngram_window_rounds;
    ++counters_.ngram_windows;
  }
  if (item.source == WindowSource::kHeld) {
    ++stats.held_rounds;
    ++counters_.held_windows;
  }
}

}  // namespace mirrorsd::scheduler
