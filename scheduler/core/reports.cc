// What workers report, held against what they were asked. A report that is late, repeated or of another
// incarnation is a no-op; one that cannot be true closes the worker. Nothing from here reaches a CHECK, and
// nothing is committed before all of the item was checked.

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {
namespace {

absl::Duration Nanoseconds(int64_t ns) { return absl::Nanoseconds(std::max<int64_t>(ns, 0)); }

// What is wrong with an item's outcome; empty if nothing.
absl::string_view FindFault(const RoundItem& item, bool is_inner_chunk, int32_t vocabulary_size,
                            const VerifyItemDone& done) {
  const int32_t window_size = static_cast<int32_t>(item.window.size());
  if (done.num_accepted < 0 || done.num_accepted > window_size) {
    return "num_accepted is beyond the window";
  }
  const int32_t kv_length =
      item.is_prefill ? item.end : item.committed_length + done.num_accepted;
  if (done.kv_length != kv_length) return "kv_length does not fit the round";
  if (is_inner_chunk) {
    return done.correction_token.has_value() ? "an inner chunk yields no token" : "";
  }
  if (!done.correction_token.has_value()) return "correction_token is missing";
  const TokenId token = *done.correction_token;
  if (token < 0 || token >= vocabulary_size) return "correction_token is beyond the vocabulary";
  if (done.num_accepted < window_size && token == item.window[done.num_accepted]) {
    return "num_accepted is too small";
  }
  return "";
}

// What is wrong with an item's exit rows; empty if nothing.
absl::string_view FindExitFault(const RoundItem& item, int32_t vocabulary_size,
                                const std::vector<EarlyExitRow>& rows) {
  if (item.branch_top_k == 0) return "candidates that were not asked for";
  if (rows.size() != item.window.size() + 1) return "exit rows that do not fit the window";
  for (size_t row = 0; row < rows.size(); ++row) {
    if (rows[row].drafted_score.has_value() != (row < item.window.size())) {
      return "a drafted_score that does not fit the window";
    }
    if (static_cast<int32_t>(rows[row].candidates.size()) > item.branch_top_k) {
      return "more candidates than were asked for";
    }
    for (const Candidate& candidate : rows[row].candidates) {
      if (candidate.token < 0 || candidate.token >= vocabulary_size) {
        return "a candidate beyond the vocabulary";
      }
      if (row < item.window.size() && candidate.token == item.window[row]) {
        return "the drafted token among the candidates";
      }
    }
  }
  return "";
}

// Reports come in the order of the items as a rule.
// `next` is where it is then.
RoundItem* FindItem(Round* round, size_t next, SequenceId id) {
  if (next < round->items.size() && round->items[next].id == id) return &round->items[next];
  if (round->index.empty()) {
    for (size_t i = 0; i < round->items.size(); ++i) {
      round->index[round->items[i].id] = static_cast<int32_t>(i);
    }
  }
  const auto found = round->index.find(id);
  return found == round->index.end() ? nullptr : &round->items[found->second];
}

}  // namespace

void Machine::HandleReport(const WorkerReported& event) {
  Worker* worker = FindConnection(event.connection);
  if (worker == nullptr || event.fence != worker->fence) {
    ++counters_.stale_reports;
    return;
  }
  worker->heard_at = now_;
  worker->forgiven = false;
  if (!std::holds_alternative<Heartbeat>(event.item)) worker->mute = false;
  if (const auto* beat = std::get_if<Heartbeat>(&event.item)) {
    if (TakeBlocks(worker, beat->blocks) && !worker->is_verifier()) WatchDraft(worker, *beat);
  } else if (std::holds_alternative<Drain>(event.item)) {
    HandleWorkerDrain(worker);
  } else if (const auto* ended = std::get_if<SequenceEnded>(&event.item)) {
    HandleEnded(worker, *ended);
  } else if (worker->is_verifier()) {
    if (const auto* item = std::get_if<VerifyItemReport>(&event.item)) {
      HandleVerifyItem(worker, *item);
    } else if (const auto* done = std::get_if<VerifyRoundDone>(&event.item)) {
      HandleVerifyRoundDone(worker, *done);
    } else if (const auto* started = std::get_if<SequenceStarted>(&event.item)) {
      HandleStarted(worker, *started);
    } else if (const auto* exit = std::get_if<EarlyExitItemReport>(&event.item)) {
      HandleExitItem(worker, *exit);
    } else if (const auto* exits = std::get_if<EarlyExitRoundReport>(&event.item)) {
      HandleExitRound(worker, *exits);
    } else {
      CloseFaulty(worker, "a verifier does not report rollouts");
    }
  } else if (const auto* progress = std::get_if<RolloutProgress>(&event.item)) {
    HandleProgress(worker, *progress);
  } else if (const auto* state = std::get_if<SequenceState>(&event.item)) {
    HandleDraftState(worker, *state);
  } else {
    CloseFaulty(worker, "a draft does not report rounds");
  }
}

Sequence* Machine::FindLive(Worker* worker, SequenceId id) {
  const auto found = worker->leases.find(id);
  if (found != worker->leases.end() && found->second.sequence != nullptr) {
    return found->second.sequence;
  }
  if (id < worker->first_sequence_id || id >= next_sequence_id_) {
    CloseFaulty(worker, absl::StrCat("it was never given sequence ", id));
  } else {
    ++counters_.stale_reports;
  }
  return nullptr;
}

void Machine::HandleStarted(Worker* worker, const SequenceStarted& report) {
  Sequence* sequence = FindLive(worker, report.sequence_id);
  if (sequence == nullptr) return;
  if (sequence->stage != Stage::kStarting) {
    ++counters_.stale_reports;
    return;
  }
  if (report.cached_length < 0 || report.cached_length >= sequence->total_length) {
    return CloseFaulty(worker, "cached_length is beyond the sequence");
  }
  counters_.prefix_cache_queries += sequence->total_length;
  counters_.prefix_cache_hits += report.cached_length;
  deadlines_.Clear(Wait::kSequenceStarted, sequence->ordinal);
  sequence->stage = Stage::kPrefilling;
  sequence->prefilled_length = report.cached_length;
  worker->ledger.Start(&sequence->kv, report.cached_length);
  std::list<Sequence*>& line = worker->CohortOf(*sequence).prefilling;
  sequence->position = line.insert(line.end(), sequence);
  last_progress_ = now_;
  MarkDirty(worker);
}

void Machine::HandleEnded(Worker* worker, const SequenceEnded& report) {
  if (worker->ending.contains(report.sequence_id)) {
    CloseLease(worker, report.sequence_id);
    TakeBlocks(worker, report.blocks);
    return;
  }
  if (FindLive(worker, report.sequence_id) != nullptr) {
    CloseFaulty(worker, "it ended a sequence on its own");
  }
}

void Machine::HandleVerifyItem(Worker* worker, const VerifyItemReport& report) {
  if (!worker->round.has_value() || report.round_id != worker->round->id) {
    if (report.round_id >= next_round_id_) return CloseFaulty(worker, "no such round");
    ++counters_.stale_reports;
    return;
  }
  RoundItem* item = FindItem(&*worker->round, worker->round->num_done, report.item.sequence_id);
  if (item == nullptr) return CloseFaulty(worker, "an item that the round does not have");
  if (item->done) {
    ++counters_.stale_reports;
    return;
  }
  const bool inner = item->is_prefill && item->end < item->committed_length;
  if (item->sequence != nullptr && !report.item.error.has_value()) {
    const absl::string_view fault =
        FindFault(*item, inner, worker->hello.vocabulary_size, report.item);
    if (!fault.empty()) return CloseFaulty(worker, fault);
  }
  item->done = true;
  ++worker->round->num_done;
  if (item->sequence != nullptr) ApplyOutcome(item, report.item);
}

void Machine::HandleVerifyRoundDone(Worker* worker, const VerifyRoundDone& report) {
  if (!worker->round.has_value() || report.round_id != worker->round->id) {
    if (report.round_id >= next_round_id_) return CloseFaulty(worker, "no such round");
    ++counters_.stale_reports;
    return;
  }
  const Round& round = *worker->round;
  if (round.num_done != static_cast<int32_t>(round.items.size())) {
    return CloseFaulty(worker, "a round without all of its items");
  }
  if (!TakeBlocks(worker, report.blocks)) return;
  const absl::Duration duration = now_ - round.started_at;
  worker->recent_round =
      worker->recent_round == absl::ZeroDuration() ? duration
                                                   : (3 * worker->recent_round + duration) / 4;
  ++counters_.rounds;
  const auto observe = [&](ObservationKind kind, absl::Duration value) {
    Observe(kind, value, 1, /*has_prompt=*/round.items.back().is_prefill);  // these come last
  };
  observe(ObservationKind::kRound, duration);
  observe(ObservationKind::kRoundQueue, Nanoseconds(report.times.queue_ns));
  observe(ObservationKind::kRoundPrefix, Nanoseconds(report.times.prefix_ns));
  observe(ObservationKind::kRoundExitHead, Nanoseconds(report.times.exit_head_ns));
  observe(ObservationKind::kRoundSuffix, Nanoseconds(report.times.suffix_ns));
  observe(ObservationKind::kRoundSample, Nanoseconds(report.times.sample_ns));
  deadlines_.Clear(Wait::kRound, worker->fence.incarnation);
  CountSilentTrees(*worker, *worker->round);
  const Cohort& cohort = worker->cohorts[worker->round->cohort_index];
  worker->round.reset();
  worker->free_since = now_;
  last_progress_ = now_;
  placing_ |= !waiting_.empty();  // what the windows did not keep is free
  DecideWindows(worker, cohort);
  MarkDirty(worker);
}

void Machine::HandleExitItem(Worker* worker, const EarlyExitItemReport& report) {
  if (!worker->round.has_value() || report.round_id != worker->round->id) {
    if (report.round_id >= next_round_id_) return CloseFaulty(worker, "no such round");
    ++counters_.stale_reports;
    return;
  }
  RoundItem* item = FindItem(&*worker->round, worker->round->next_exit, report.item.sequence_id);
  if (item == nullptr) return CloseFaulty(worker, "an item that the round does not have");
  if (item->done || !item->exit_rows.empty() || worker->round->exit_reported) {
    ++counters_.stale_reports;
    return;
  }
  const absl::string_view fault =
      FindExitFault(*item, worker->hello.vocabulary_size, report.item.rows);
  if (!fault.empty()) return CloseFaulty(worker, fault);
  worker->round->next_exit = static_cast<size_t>(item - worker->round->items.data()) + 1;
  if (item->sequence != nullptr) item->exit_rows = report.item.rows;
}

void Machine::HandleExitRound(Worker* worker, const EarlyExitRoundReport& report) {
  if (!worker->round.has_value() || report.round_id != worker->round->id) {
    if (report.round_id >= next_round_id_) return CloseFaulty(worker, "no such round");
    ++counters_.stale_reports;
    return;
  }
  if (std::exchange(worker->round->exit_reported, true)) {
    ++counters_.stale_reports;
    return;
  }
  GrowTrees(worker, report.sent_at_ns);
}

void Machine::HandleProgress(Worker* worker, const RolloutProgress& report) {
  Sequence* sequence = FindLive(worker, report.sequence_id);
  if (sequence == nullptr) return;
  HypothesisTree& tree = sequence->draft.tree;
  if (report.round_id >= next_round_id_) return CloseFaulty(worker, "no such round");
  if (tree.round_id != report.round_id) {
    ++counters_.stale_reports;
    return;
  }
  Branch* branch = tree.Find(report.num_accepted, report.root_token);
  if (branch == nullptr) {
    const size_t row = static_cast<size_t>(report.num_accepted);
    if (report.num_accepted < 0 || row >= tree.own_roots.size() || tree.own_roots[row] == 0) {
      return CloseFaulty(worker, "a branch that was not asked for");
    }
    if (report.root_token < 0 || report.root_token >= worker->hello.vocabulary_size) {
      return CloseFaulty(worker, "a token beyond its vocabulary");
    }
    --tree.own_roots[row];
    tree.branches.push_back({.num_accepted = report.num_accepted,
                             .root_token = report.root_token,
                             .asked_at = tree.asked_at});
    branch = &tree.branches.back();
  }
  if (branch->answered || report.first_depth < branch->num_received) {
    ++counters_.stale_reports;
    return;
  }
  const int32_t num_new = static_cast<int32_t>(report.token_ids.size());
  if (report.first_depth > branch->num_received || num_new > tree.depth - branch->num_received) {
    return CloseFaulty(worker, "rollout depths that do not follow");
  }
  for (const TokenId token : report.token_ids) {
    if (token < 0 || token >= worker->hello.vocabulary_size) {
      return CloseFaulty(worker, "a token beyond its vocabulary");
    }
  }
  TakeProgress(sequence, branch, report);
}

void Machine::HandleDraftState(Worker* worker, const SequenceState& report) {
  if (report.state == DraftSequenceState::kAbsent && worker->ending.contains(report.sequence_id)) {
    CloseLease(worker, report.sequence_id);  // a draft's answer to EndSequence
    TakeBlocks(worker, report.blocks);
    return;
  }
  Sequence* sequence = FindLive(worker, report.sequence_id);
  if (sequence == nullptr || !TakeBlocks(worker, report.blocks)) return;
  if (report.draft_kv_length < 0 || report.draft_kv_length > worker->hello.context_length) {
    return CloseFaulty(worker, "draft_kv_length is beyond the context");
  }
  Drafting& draft = sequence->draft;
  switch (report.state) {
    case DraftSequenceState::kReady:
    case DraftSequenceState::kCatchingUp:
    case DraftSequenceState::kEvicted:  // it comes back by itself when its pool has room
      draft.state = report.state;
      draft.kv_length = std::min(report.draft_kv_length, sequence->committed_length());
      worker->pool_full = report.state == DraftSequenceState::kEvicted;
      if (report.state != DraftSequenceState::kReady) StopAwaiting(sequence);
      if (!worker->pool_full) assigning_ = true;
      return;
    case DraftSequenceState::kAbsent:  // it does not know the sequence: what was sent is void
      LeaveDraft(sequence, /*tell=*/true);
      return RetryDraftLater(sequence);
  }
  CloseFaulty(worker, "an unknown state of a sequence");
}

}  // namespace mirrorsd::scheduler
