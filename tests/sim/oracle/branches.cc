// What drafts are asked and say, what early exits foresee, and where a window may come from: a branch of the round
// that was decided last, exactly as the draft said it, or the request's own text.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/oracle/oracle.h"

namespace mirrorsd::sim {
namespace {

int32_t WindowOf(const Plan& plan, const Request& request) {
  const bool own = request.client != nullptr && request.client->window >= 0;
  return own ? request.client->window : plan.config.num_speculative_tokens;
}

// Whether the text goes on like this after an earlier place that its last two or three tokens came at.
bool IsOfText(const std::vector<TokenId>& text, const std::vector<TokenId>& window) {
  for (const size_t num : {size_t{3}, size_t{2}}) {
    if (text.size() < num) continue;
    for (size_t end = text.size() - 1; end >= num; --end) {
      if (!std::equal(text.end() - num, text.end(), text.begin() + (end - num))) continue;
      if (end + window.size() > text.size()) continue;
      if (std::equal(window.begin(), window.end(), text.begin() + end)) return true;
    }
  }
  return false;
}

}  // namespace

bool Oracle::IsMirror(const Request& request) const {
  const SpeculationMode mode = request.submit.speculation == SpeculationMode::kDefault
                                   ? plan_.config.speculation
                                   : request.submit.speculation;
  return mode == SpeculationMode::kMirror;
}

AskedBranch* Oracle::DecidedBranch(Request* request) {
  AskedTree& tree = request->tree;
  const bool current = tree.round_id != 0 && tree.round_id == request->decided_round;
  if (!current || request->output.empty()) return nullptr;
  return tree.Find(request->decided_accepted, request->output.back());
}

// ---- what is said -----------------------------------------------------------------------------------

void Oracle::TakeExit(Peer* peer, const ReportItem& item) {
  if (const auto* exit = std::get_if<scheduler::EarlyExitItemReport>(&item)) {
    if (!peer->round.has_value() || exit->round_id != peer->round->round_id || peer->exit_over) return;
    peer->exits.push_back(exit->item);
  } else if (const auto* exits = std::get_if<scheduler::EarlyExitRoundReport>(&item)) {
    if (!peer->round.has_value() || exits->round_id != peer->round->round_id) return;
    if (std::exchange(peer->exit_over, true)) return;
    coverage_->Count(Row::kExitReported);
    size_t num_asked = 0;
    for (const VerifyItem& asked : peer->round->items) num_asked += asked.branch_top_k > 0;
    if (peer->exits.size() < num_asked) coverage_->Count(Row::kExitLeftOut);
  }
}

void Oracle::TakeProgress(Request* request, const RolloutProgress& progress) {
  AskedTree& tree = request->tree;
  if (tree.round_id != progress.round_id) return;
  AskedBranch* branch = tree.Find(progress.num_accepted, progress.root_token);
  if (branch == nullptr) {
    int32_t& left = tree.own_roots[progress.num_accepted];
    if (left == 0) return;
    --left;
    tree.branches.push_back({progress.num_accepted, progress.root_token, /*own=*/true});
    branch = &tree.branches.back();
    coverage_->Count(Row::kOwnRootNamed);
  }
  if (branch->answered || progress.first_depth != branch->num_received) return;
  if (progress.token_ids.size() > 1) coverage_->Count(Row::kTailSaid);
  for (const TokenId token : progress.token_ids) {
    const bool follows = static_cast<int32_t>(branch->usable.size()) == branch->num_received;
    if (follows && token < kVocabulary) branch->usable.push_back(token);
    ++branch->num_received;
  }
  branch->answered = progress.last || branch->num_received == tree.depth;
  if (progress.last && branch->num_received < tree.depth) coverage_->Count(Row::kBranchGivenUp);
}

// ---- what is asked ----------------------------------------------------------------------------------

void Oracle::SawRollout(Peer* peer, const StartRollout& command) {
  Request* request = FindLive(command.sequence_id);
  if (request == nullptr || request->draft != peer) {
    return Violation("a rollout of a sequence that is not there");
  }
  if (request->draft_state != DraftSequenceState::kReady ||
      (request->client != nullptr && !request->client->speculates)) {
    Violation("a rollout that may not be");
  }
  AskedTree& tree = request->tree;
  if (tree.round_id == command.round_id) {
    if (tree.committed_length != command.committed_length || tree.window != command.window ||
        tree.depth != command.depth) {
      Violation("one round's rollouts with two paths");
    }
  } else {
    if (command.round_id < tree.round_id) Violation("a rollout of an earlier round");
    if (tree.is_busy()) coverage_->Count(Row::kTreeReplaced);
    tree = {.round_id = command.round_id,
            .committed_length = command.committed_length,
            .depth = command.depth,
            .window = command.window};
  }
  if (command.round_id == request->decided_round) {
    CheckOutcome(command, *request);
  } else {
    CheckPredicted(command, *request);
  }
  for (const RolloutRoot& root : command.roots) CheckRoot(command, root, request);
}

// While the round runs: of its own path, and no more branches than its budget.
void Oracle::CheckPredicted(const StartRollout& command, const Request& request) {
  Peer* verifier = request.verifier;
  if (verifier == nullptr || !verifier->round.has_value() ||
      verifier->round->round_id != command.round_id || !IsMirror(request)) {
    return Violation("a rollout of a round that does not run");
  }
  const std::vector<VerifyItem>& items = verifier->round->items;
  const auto item = std::find_if(items.begin(), items.end(), [&](const VerifyItem& one) {
    return one.sequence_id == request.verifier_id;
  });
  if (item == items.end() || verifier->done[item - items.begin()]) {
    return Violation("a rollout of an outcome that is known");
  }
  if (item->branch_top_k == 0 || item->window != command.window ||
      item->committed_length != command.committed_length ||
      command.depth > WindowOf(plan_, request) + 1) {
    Violation("a rollout of another path than the round's");
  }
  verifier->num_branches += static_cast<int32_t>(command.roots.size());
  if (verifier->num_branches > plan_.config.branch_budget) Violation("more branches than the budget");
  if (item->is_prefill) coverage_->Count(Row::kPromptBranches);
}

// Once it is known: of that alone. Mirror rounds hold a cohort only where they are told to.
void Oracle::CheckOutcome(const StartRollout& command, const Request& request) {
  if (request.life != Life::kDecoding) Violation("a rollout before the prompt is done");
  if (IsMirror(request) && plan_.config.miss_fallback != MissFallback::kHold) {
    Violation("a mirror round that waits for its draft");
  }
  const int32_t most = WindowOf(plan_, request) + (IsMirror(request) ? 1 : 0);
  if (command.roots.size() != 1 || command.roots[0].num_accepted != request.decided_accepted ||
      command.roots[0].token != request.output.back() || command.depth > most ||
      command.window != request.decided_window || command.committed_length != request.decided_length) {
    Violation("a rollout of another outcome than the last");
  }
}

void Oracle::CheckRoot(const StartRollout& command, const RolloutRoot& root, Request* request) {
  AskedTree& tree = request->tree;
  if (root.num_accepted < 0 || root.num_accepted > static_cast<int32_t>(command.window.size()) ||
      root.token.has_value() == (root.own_rank >= 0)) {
    return Violation("a root that cannot be");
  }
  if (!root.token.has_value()) {
    std::vector<int32_t>& ranks = tree.own_ranks[root.num_accepted];
    if (std::find(ranks.begin(), ranks.end(), root.own_rank) != ranks.end()) {
      Violation("one rank asked for twice");
    }
    ranks.push_back(root.own_rank);
    ++tree.own_roots[root.num_accepted];
    return;
  }
  if (tree.Find(root.num_accepted, *root.token) != nullptr) Violation("a branch asked for twice");
  const bool predicted = command.round_id != request->decided_round;
  tree.branches.push_back({root.num_accepted, *root.token, /*own=*/false, predicted});
  if (!predicted) return;
  const std::vector<TokenId>& ends = request->submit.end_token_ids;
  if (std::find(ends.begin(), ends.end(), *root.token) != ends.end()) {
    Violation("a branch beyond the request's end");
  }
  // What the exit said, and nothing else.
  for (const EarlyExitItem& exit : request->verifier->exits) {
    if (exit.sequence_id != request->verifier_id || !request->verifier->exit_over) continue;
    for (const Candidate& candidate : exit.rows.at(root.num_accepted).candidates) {
      if (candidate.token == *root.token) return coverage_->Count(Row::kExitBranches);
    }
  }
  Violation("a branch that no exit made likely");
}

// ---- what comes of it -------------------------------------------------------------------------------

void Oracle::CheckWindow(const VerifyItem& item, Request* request) {
  const AskedBranch* branch = DecidedBranch(request);
  const bool mirror = IsMirror(*request);
  const bool of_branch = branch != nullptr && !branch->usable.empty();
  const std::vector<TokenId>& window = item.window;
  if (static_cast<int32_t>(window.size()) > WindowOf(plan_, *request)) Violation("a window too long");
  request->next.rounds = mirror ? 1 : 0;
  if (window.empty()) {
    const bool late = branch != nullptr && branch->num_received == 0 && request->draft != nullptr;
    if (late && !mirror) coverage_->Count(Row::kGoesOnLateDraft);
    if (late && mirror) coverage_->Count(Row::kBranchEmpty);
    if (mirror && request->decided_round != 0 && request->tree.round_id == request->decided_round &&
        branch == nullptr) {
      coverage_->Count(Row::kBranchMissed);
    }
    return;
  }
  if (of_branch) {
    if (window.size() > branch->usable.size() ||
        !std::equal(window.begin(), window.end(), branch->usable.begin())) {
      Violation("a window that the draft did not say");
    }
    if (request->draft_lost) coverage_->Count(Row::kSpeculationBack);
    request->draft_lost = false;
    if (!branch->answered) coverage_->Count(mirror ? Row::kPartBranch : Row::kPartWindow);
    if (!mirror) return;
    request->next.branch_windows = 1;
    request->next.branch_depths = static_cast<int64_t>(branch->usable.size());
    coverage_->Count(branch->own          ? Row::kOwnHit
                     : branch->after_exit ? Row::kExitHit
                                          : Row::kHeld);
    return;
  }
  std::vector<TokenId> text = request->submit.token_ids;
  text.insert(text.end(), request->output.begin(), request->output.end());
  if (!mirror || plan_.config.miss_fallback != MissFallback::kNgram || !IsOfText(text, window)) {
    return Violation("a window that no rollout of the last outcome gave");
  }
  request->next.ngram_windows = 1;
  coverage_->Count(Row::kNgram);
}

// Every round with branches began with a branch's tokens, or missed; a miss may have been made good.
void Oracle::CheckBooks(const Request& request, const SpeculationStats& stats) {
  const MirrorBooks& books = request.books;
  if (stats.branch_hits + stats.held_rounds != books.branch_windows ||
      stats.ngram_window_rounds != books.ngram_windows ||
      stats.branch_hits + stats.branch_misses > books.rounds ||
      stats.branch_misses < stats.held_rounds + stats.ngram_window_rounds ||
      stats.branch_hit_depth_sum < stats.branch_hits ||
      stats.branch_hit_depth_sum > books.branch_depths) {
    Violation(absl::StrCat("branches that do not add up: ", stats.branch_hits, " hits, ",
                           stats.branch_misses, " misses, ", stats.held_rounds, " held, ",
                           stats.ngram_window_rounds, " n-grams, depth ", stats.branch_hit_depth_sum));
  }
  if (plan_.config.miss_fallback != MissFallback::kHold &&
      (stats.held_rounds > 0 || stats.branch_hit_depth_sum != books.branch_depths)) {
    Violation("rounds that were held without being told to");
  }
}

}  // namespace mirrorsd::sim
