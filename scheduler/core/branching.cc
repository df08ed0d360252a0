// What the drafts are asked to roll out: the branches of a round while it runs, by prediction, or the
// outcome once it is known; and what they say. Nothing here can change a token.

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "scheduler/core/machine.h"

namespace mirrorsd::scheduler {
namespace {

constexpr float kGreedyTemperature = 1e-5f;
constexpr int32_t kMaxSilentTrees = 8;

size_t GapsOf(const Sequence& sequence) {
  return sequence.sampling.temperature <= kGreedyTemperature ? 0 : 1;
}

}  // namespace

// ---- asking ---------------------------------------------------------------------------------------

// After the outcome: its own continuation, for which the cohort waits.
void Machine::AskSerial(Sequence* sequence, int32_t depth) {
  HypothesisTree& tree = sequence->draft.tree;
  StopAwaiting(sequence);
  const bool has_tree = tree.round_id == sequence->decided_round;
  std::optional<BranchMissReason> held;
  if (sequence->plan.branch_top_k > 0) {
    held = !has_tree                            ? BranchMissReason::kNotReady
           : DecidedBranch(sequence) != nullptr ? BranchMissReason::kNotDrafted
                                                : BranchMissReason::kNotPredicted;
  }
  if (DecidedBranch(sequence) == nullptr) {
    StartRollout command =
        has_tree ? GrowTree(*sequence)
                 : BeginTree(sequence, sequence->decided_round, sequence->decided_length,
                             std::min(depth, DraftCap(*sequence)));
    command.window = sequence->decided_window;
    command.roots.push_back({sequence->decided_accepted, sequence->tokens.back(), -1});
    Ask(sequence, BranchOrigin::kOutcome, std::move(command));
  }
  tree.held = held;
  tree.awaited = !sequence->draft.worker->late;
  if (!tree.awaited) return;
  Cohort& cohort = sequence->verifier->CohortOf(*sequence);
  ++cohort.num_awaited;
  cohort.awaited_depth = std::max(cohort.awaited_depth, tree.depth);
}

// Whether the round's outcome may have branches rolled out for it.
bool Machine::CanBranch(const Sequence& sequence) const {
  const Drafting& draft = sequence.draft;
  if (sequence.plan.branch_top_k == 0 || sequence.plan.window <= 0 || draft.worker == nullptr ||
      draft.state != DraftSequenceState::kReady) {
    return false;
  }
  const HypothesisTree& tree = draft.tree;
  if (tree.round_id == 0) return true;
  // Now and then even one that says nothing: roots by own rank may have been dropped without a word.
  if (now_ - tree.asked_at >= config_.max_draft_wait) return true;
  // A late draft is asked again only when it has answered: its queue does not grow.
  if (draft.worker->late) return tree.num_answered > 0;
  // Rounds may be far shorter than the time after which a draft is late: until then, one that says nothing is
  // asked a few times.
  return tree.heard || tree.num_silent < kMaxSilentTrees;
}

// P1: a round has started, and the drafts begin with what they think likely themselves.
void Machine::PlantTrees(Worker* verifier) {
  const Round& round = *verifier->round;
  options_.clear();
  for (size_t i = 0; i < round.items.size(); ++i) {
    const RoundItem& item = round.items[i];
    if (item.branch_top_k == 0) continue;
    AddOwnBranches(static_cast<int32_t>(i), static_cast<int32_t>(item.window.size()),
                   item.sequence->acceptance.rate(), &options_);
  }
  if (options_.empty()) return;
  DropFutile(round);
  KeepMostLikely((config_.branch_budget + 1) / 2, &options_);
  AskOptions(verifier, 0);
}

// P2: the early exit has reported; what is left of the budget goes to the outcomes that it makes likely.
void Machine::GrowTrees(Worker* verifier, int64_t exit_sent_at_ns) {
  const Round& round = *verifier->round;
  options_.clear();
  for (size_t i = 0; i < round.items.size(); ++i) {
    const RoundItem& item = round.items[i];
    if (item.exit_rows.empty() || item.sequence == nullptr || !CanBranch(*item.sequence)) continue;
    AddCandidateBranches(static_cast<int32_t>(i), item.exit_rows, gaps_[GapsOf(*item.sequence)],
                         &options_);
  }
  DropFutile(round);
  KeepMostLikely(config_.branch_budget - round.num_branches, &options_);
  AskOptions(verifier, exit_sent_at_ns);
}

// Takes out what is being rolled out already, and what the request or the draft's context would end with.
void Machine::DropFutile(const Round& round) {
  const auto futile = [&](const BranchOption& option) {
    const RoundItem& item = round.items[option.sequence];
    const Sequence& sequence = *item.sequence;
    // The outcome, and a token of its window, and one more.
    if (sequence.remaining_tokens() < option.root.num_accepted + 3) return true;
    if (BranchDepth(sequence, static_cast<int32_t>(item.window.size())) <= 0) return true;
    if (!option.root.token.has_value()) return false;
    const std::vector<TokenId>& ends = sequence.end_token_ids;
    if (std::find(ends.begin(), ends.end(), *option.root.token) != ends.end()) return true;
    const HypothesisTree& tree = sequence.draft.tree;
    return tree.round_id == round.id &&
           tree.Find(option.root.num_accepted, *option.root.token) != nullptr;
  };
  options_.erase(std::remove_if(options_.begin(), options_.end(), futile), options_.end());
}

// One token more than a window takes: a tail that is the next round's first branch.
int32_t Machine::BranchDepth(const Sequence& sequence, int32_t window_size) const {
  const Hello& draft = sequence.draft.worker->hello;
  return std::min({sequence.plan.window + 1, draft.limits.max_window,
                   draft.context_length - sequence.committed_length() - window_size - 1});
}

// Asks for options_, each sequence's at once, most likely first.
void Machine::AskOptions(Worker* verifier, int64_t exit_sent_at_ns) {
  Round& round = *verifier->round;
  std::stable_sort(options_.begin(), options_.end(),
                   [](const BranchOption& a, const BranchOption& b) {
                     return a.sequence < b.sequence;
                   });
  for (size_t begin = 0; begin < options_.size();) {
    const RoundItem& item = round.items[options_[begin].sequence];
    Sequence* sequence = item.sequence;
    HypothesisTree& tree = sequence->draft.tree;
    const int32_t depth = BranchDepth(*sequence, static_cast<int32_t>(item.window.size()));
    StartRollout command = tree.round_id == round.id
                               ? GrowTree(*sequence)
                               : BeginTree(sequence, round.id, item.committed_length, depth);
    command.window = item.window;
    command.exit_sent_at_ns = exit_sent_at_ns;
    size_t end = begin;
    for (; end < options_.size() && options_[end].sequence == options_[begin].sequence; ++end) {
      command.roots.push_back(options_[end].root);
    }
    round.num_branches += static_cast<int32_t>(end - begin);
    counters_.branches_started += static_cast<int64_t>(end - begin);
    // Times of two hosts are not to be compared.
    const bool same_host = verifier->hello.boot_id == sequence->draft.worker->hello.boot_id;
    if (same_host && exit_sent_at_ns > 0) tree.exit_sent_at_ns = exit_sent_at_ns;
    Ask(sequence, exit_sent_at_ns > 0 ? BranchOrigin::kExit : BranchOrigin::kOwn,
        std::move(command));
    begin = end;
  }
}

// Replaces the sequence's tree by an empty one of `round_id`.
StartRollout Machine::BeginTree(Sequence* sequence, RoundId round_id, int32_t path_length,
                                int32_t depth) {
  Drafting& draft = sequence->draft;
  StopAwaiting(sequence);
  const bool silent = draft.tree.round_id != 0 && !draft.tree.heard;
  draft.tree = {.round_id = round_id,
                .path_length = path_length,
                .depth = depth,
                .asked_at = now_,
                .num_silent = silent ? draft.tree.num_silent + 1 : 0,
                .silent_since = silent ? draft.tree.silent_since : now_};
  // The draft may drop what it holds beyond the path, so no more counts as acknowledged.
  const int32_t path_offset = std::min(draft.kv_length, path_length);
  draft.kv_length = path_offset;
  StartRollout command;
  command.sequence_id = draft.id;
  command.round_id = round_id;
  command.committed_length = path_length;
  command.path_offset = path_offset;
  command.path_tokens.assign(sequence->tokens.begin() + path_offset,
                             sequence->tokens.begin() + path_length);
  command.depth = depth;
  return command;
}

// More branches of the same tree: the path is told already.
StartRollout Machine::GrowTree(const Sequence& sequence) const {
  const HypothesisTree& tree = sequence.draft.tree;
  StartRollout command;
  command.sequence_id = sequence.draft.id;
  command.round_id = tree.round_id;
  command.committed_length = tree.path_length;
  command.path_offset = tree.path_length;
  command.depth = tree.depth;
  return command;
}

// Notes what is asked for and sends it.
void Machine::Ask(Sequence* sequence, BranchOrigin origin, StartRollout command) {
  HypothesisTree& tree = sequence->draft.tree;
  for (const RolloutRoot& root : command.roots) {
    if (root.token.has_value()) {
      tree.branches.push_back({.num_accepted = root.num_accepted,
                               .root_token = *root.token,
                               .origin = origin,
                               .asked_at = now_});
      continue;
    }
    if (tree.own_roots.size() <= static_cast<size_t>(root.num_accepted)) {
      tree.own_roots.resize(root.num_accepted + 1);
    }
    ++tree.own_roots[root.num_accepted];
  }
  Send(sequence->draft.worker, std::move(command));
}

// ---- hearing --------------------------------------------------------------------------------------

void Machine::TakeProgress(Sequence* sequence, Branch* branch, const RolloutProgress& report) {
  HypothesisTree& tree = sequence->draft.tree;
  Worker* draft = sequence->draft.worker;
  if (!std::exchange(tree.heard, true) && sequence->verifier != nullptr &&
      branch->origin != BranchOrigin::kOutcome &&
      now_ - tree.asked_at <= DraftWait(*sequence->verifier, tree.depth)) {
    draft->num_missed = 0;
  }
  if (branch->origin == BranchOrigin::kExit && report.started_at_ns >= tree.exit_sent_at_ns &&
      tree.exit_sent_at_ns > 0) {
    Observe(ObservationKind::kEarlyExitRelay,
            absl::Nanoseconds(report.started_at_ns - tree.exit_sent_at_ns));
    tree.exit_sent_at_ns = 0;
  }
  for (const TokenId token : report.token_ids) {
    // Two tables may be padded differently; what the target does not have ends the window.
    const bool follows = static_cast<int32_t>(branch->tokens.size()) == branch->num_received;
    if (follows && token < profile_->vocabulary_size) branch->tokens.push_back(token);
    ++branch->num_received;
  }
  // One that was refused says nothing of the path.
  if (!report.token_ids.empty()) {
    sequence->draft.kv_length = std::max(sequence->draft.kv_length, tree.path_length);
  }
  if (report.last || branch->num_received == tree.depth) FinishBranch(sequence, branch);
}

// A branch's last progress came, in time or not.
void Machine::FinishBranch(Sequence* sequence, Branch* branch) {
  HypothesisTree& tree = sequence->draft.tree;
  Worker* draft = sequence->draft.worker;
  branch->answered = true;
  ++tree.num_answered;
  const bool is_outcome = branch == DecidedBranch(sequence);
  if (tree.awaited && is_outcome) draft->num_missed = 0;
  const bool whole = branch->num_received == tree.depth;
  const absl::Duration duration = now_ - branch->asked_at;
  // What the draft knew before it was asked, or gave up, says nothing of its pace.
  const bool timed = branch->origin == BranchOrigin::kOutcome ||
                     (branch->origin == BranchOrigin::kExit && whole);
  if (timed) Observe(ObservationKind::kDraftRollout, duration);
  if (Worker* verifier = sequence->verifier) {
    if (timed) verifier->rollout_times.Add(duration, tree.depth);
    if (draft->late && (timed || whole) && duration <= DraftWait(*verifier, tree.depth)) {
      MarkLate(draft, false);
    }
  }
  if (is_outcome) StopAwaiting(sequence);
}

void Machine::StopAwaiting(Sequence* sequence) {
  HypothesisTree& tree = sequence->draft.tree;
  if (!tree.awaited) return;
  tree.awaited = false;
  if (--sequence->verifier->CohortOf(*sequence).num_awaited == 0) MarkDirty(sequence->verifier);
}

// A round is over, and of a tree that was asked for when it began, and of those that it replaced, nothing was heard
// for longer than a cohort would wait for a window: a missed deadline, although nobody waited.
void Machine::CountSilentTrees(const Worker& verifier, const Round& round) {
  for (const Sequence* sequence : verifier.cohorts[round.cohort_index].decoding) {
    const HypothesisTree& tree = sequence->draft.tree;
    if (tree.round_id == 0 || tree.heard || tree.awaited || sequence->draft.worker->late) continue;
    if (now_ - tree.silent_since <= DraftWait(verifier, tree.depth)) continue;
    CountMissedDeadline(sequence->draft.worker, round.id);
  }
}

// ---- learning -------------------------------------------------------------------------------------

// What the outcome says of the draft, and of the exit's scores. Rows past the first reject have none.
void Machine::LearnOutcome(const RoundItem& item, const VerifyItemDone& done) {
  Sequence* sequence = item.sequence;
  const int32_t window_size = static_cast<int32_t>(item.window.size());
  if (window_size > 0 && item.source != WindowSource::kNgram) {
    sequence->acceptance.Learn(done.num_accepted, done.num_accepted < window_size);
  }
  if (item.exit_rows.empty()) return;
  GapTable& gaps = gaps_[GapsOf(*sequence)];
  for (int32_t row = 0; row <= done.num_accepted; ++row) {
    std::optional<TokenId> drafted;
    if (row < window_size) drafted = item.window[row];
    gaps.LearnRow(item.exit_rows[row], drafted,
                  row < done.num_accepted ? item.window[row] : *done.correction_token);
  }
}

}  // namespace mirrorsd::scheduler
