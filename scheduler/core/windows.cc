// What each sequence's next round verifies: what the policies decide when a round has ended, and where the tokens come
// from when the next one starts. Nothing here can change a token.

#include <algorithm>
#include <utility>

#include "absl/types/span.h"
#include "scheduler/core/machine.h"
#include "scheduler/odds/ngram_window.h"

namespace mirrorsd::scheduler {

// A round has ended: asks the policies for the windows of the whole cohort, and the drafts for those that are drafted
// only now.
void Machine::DecideWindows(Worker* verifier, const Cohort& cohort) {
  candidates_.assign(cohort.decoding.begin(), cohort.decoding.end());
  AskPolicies(*verifier);
  planned_.clear();
  const KvLedger& ledger = verifier->ledger;  // what would find no blocks is not drafted
  for (Sequence* sequence : candidates_) {
    const int64_t room = ledger.Reach(sequence->kv, ledger.spare_blocks()) -
                         sequence->committed_length();
    int32_t& window = sequence->plan.window;
    window = static_cast<int32_t>(std::min<int64_t>({room, window, WindowCap(*sequence)}));
    if (window > 0) planned_.push_back(sequence);
  }
  // Rows are shared: the largest common cap under which every sequence has its rows.
  const int64_t num_rows = verifier->hello.limits.max_rows - ChunkReserve(*verifier, cohort) -
                           static_cast<int64_t>(cohort.decoding.size());
  int32_t cap = 0;
  for (const Sequence* sequence : planned_) cap = std::max(cap, sequence->plan.window);
  const auto total = [this](int32_t limit) {
    int64_t rows = 0;
    for (const Sequence* sequence : planned_) rows += std::min(sequence->plan.window, limit);
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
  for (Sequence* sequence : planned_) {
    sequence->plan.window = std::min(sequence->plan.window, cap);
    if (WantsSerial(*sequence)) AskSerial(sequence, sequence->plan.window);
  }
}

// Prompts that end in the round have no window, but their outcomes have branches.
void Machine::PlanPrompts(const Worker& verifier, const Round& round) {
  candidates_.clear();
  for (const RoundItem& item : round.items) {
    if (item.is_prefill && item.end == item.committed_length) candidates_.push_back(item.sequence);
  }
  if (!candidates_.empty()) AskPolicies(verifier);
}

// Makes the plans of candidates_, which are this verifier's.
void Machine::AskPolicies(const Worker& verifier) {
  for (Sequence* sequence : candidates_) sequence->plan = {};
  for (const SpeculationPolicy& policy : config_.policies) {
    if (policy.mode == SpeculationMode::kOff) continue;  // nothing to draft, whatever it is called
    AskPolicy(verifier, policy);
  }
}

void Machine::AskPolicy(const Worker& verifier, const SpeculationPolicy& policy) {
  asked_.clear();
  outlooks_.clear();
  CohortOutlook cohort;
  const StepTimes& verify = verifier.hello.step_times;
  cohort.verify_base = absl::Nanoseconds(verify.base_ns);
  cohort.verify_per_row = absl::Nanoseconds(verify.per_row_ns);
  cohort.miss_fallback = config_.miss_fallback;
  for (Sequence* sequence : candidates_) {
    if (sequence->policy != &policy) continue;
    const Worker* draft = sequence->draft.worker;
    asked_.push_back(sequence);
    outlooks_.push_back({sequence->remaining_tokens(), sequence->requested_window,
                         sequence->requested_top_k, sequence->stats.drafted_tokens, sequence->stats.accepted_tokens,
                         draft != nullptr && sequence->draft.state == DraftSequenceState::kReady});
    if (draft == nullptr || cohort.draft_base != absl::ZeroDuration()) continue;
    cohort.draft_base = absl::Nanoseconds(draft->hello.step_times.base_ns);
    cohort.draft_per_row = absl::Nanoseconds(draft->hello.step_times.per_row_ns);
  }
  if (asked_.empty()) return;
  cohort.num_sequences = static_cast<int32_t>(asked_.size());
  decisions_.assign(asked_.size(), PolicyDecision{});
  policy.decide(cohort, outlooks_, absl::MakeSpan(decisions_));
  for (size_t i = 0; i < asked_.size(); ++i) asked_[i]->plan = decisions_[i];
}

// Whether the sequence's window is to be drafted, or waited for, now that the outcome is known.
bool Machine::WantsSerial(const Sequence& sequence) const {
  const Drafting& draft = sequence.draft;
  if (draft.worker == nullptr || draft.state != DraftSequenceState::kReady ||
      sequence.plan.window <= 0 || DraftCap(sequence) <= 0) {
    return false;
  }
  // A late draft is asked again only when it has answered: its queue does not grow.
  if (draft.worker->late && draft.tree.round_id != 0 && draft.tree.num_answered == 0) return false;
  const Branch* branch = DecidedBranch(&sequence);
  if (sequence.plan.branch_top_k == 0) return branch == nullptr;
  return sequence.plan.miss_fallback == MissFallback::kHold && !draft.tree.held.has_value() &&
         (branch == nullptr || (branch->tokens.empty() && !branch->answered));
}

// The longest window that the sequence's round could verify, whoever drafts it.
int32_t Machine::WindowCap(const Sequence& sequence) const {
  const WorkerLimits& verifier = sequence.verifier->hello.limits;
  return std::max(
      0, std::min({sequence.remaining_tokens() - 1, verifier.max_window, verifier.max_rows - 1}));
}

// The longest one that its draft could make.
int32_t Machine::DraftCap(const Sequence& sequence) const {
  const Worker* draft = sequence.draft.worker;
  if (draft == nullptr) return 0;
  return std::max(0, std::min(draft->hello.limits.max_window,
                              draft->hello.context_length - sequence.committed_length()));
}

// The branch that the latest outcome was, if it was asked for.
const Branch* Machine::DecidedBranch(const Sequence* sequence) const {
  const HypothesisTree& tree = sequence->draft.tree;
  if (sequence->decided_round == 0 || tree.round_id != sequence->decided_round) return nullptr;
  return tree.Find(sequence->decided_accepted, sequence->tokens.back());
}

// What there is of the window when the round starts; a straggler's first depths are as good as any.
void Machine::TakeWindow(const Sequence& sequence, int32_t max_window, RoundItem* item) const {
  const PolicyDecision& plan = sequence.plan;
  const HypothesisTree& tree = sequence.draft.tree;
  const bool mirror = plan.branch_top_k > 0;
  int32_t most = std::min(max_window, WindowCap(sequence));
  if (mirror) most = std::min(most, plan.window);
  if (most <= 0) return;
  const Branch* branch = DecidedBranch(&sequence);
  if (branch != nullptr && !branch->tokens.empty()) {
    const int32_t size = std::min(
        {static_cast<int32_t>(branch->tokens.size()), most, DraftCap(sequence)});
    if (size <= 0) return;
    item->window.assign(branch->tokens.begin(), branch->tokens.begin() + size);
    item->depth = static_cast<int32_t>(branch->tokens.size());
    item->source = !mirror                  ? WindowSource::kSerial
                   : tree.held.has_value() ? WindowSource::kHeld
                                           : WindowSource::kBranch;
  }
  if (!mirror || item->source == WindowSource::kBranch) return;
  item->miss = tree.held.has_value()  ? *tree.held
               : branch != nullptr    ? BranchMissReason::kNotDrafted
               : tree.round_id != 0 && tree.round_id == sequence.decided_round
                   ? BranchMissReason::kNotPredicted
                   : BranchMissReason::kNotReady;
  if (!item->window.empty() || plan.miss_fallback != MissFallback::kNgram) return;
  item->window = NgramWindow(sequence.tokens, most);
  if (!item->window.empty()) item->source = WindowSource::kNgram;
}

}  // namespace mirrorsd::scheduler
