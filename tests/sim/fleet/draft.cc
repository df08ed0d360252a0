// The simulated draft-worker. Its rollouts run side by side; commands are handled in order.

#include <algorithm>
#include <utility>

#include "tests/sim/fleet/workers.h"

namespace mirrorsd::sim {

void SimDraft::Work() {
  while (!dead_ && !frozen() && !inbox_.empty()) {
    const WorkerCommand command = std::move(inbox_.front());
    inbox_.pop_front();
    if (const auto* start = std::get_if<StartSequence>(&command)) {
      if (sequences_.contains(start->sequence_id)) Breach("a sequence started twice");
      State& state = sequences_[start->sequence_id];
      state.prompt_length = start->prompt_length;
      state.total_length = start->total_length;
      if (static_cast<int>(sequences_.size()) > hello_.limits.max_sequences) {
        Breach("too many sequences");
      }
    } else if (const auto* append = std::get_if<AppendTokens>(&command)) {
      Append(*append);
    } else if (const auto* rollout = std::get_if<StartRollout>(&command)) {
      RollOut(*rollout);
    } else if (const auto* end = std::get_if<EndSequence>(&command)) {
      if (sequences_.erase(end->sequence_id) == 0) Breach("EndSequence of an unknown sequence");
      Say(SequenceState{end->sequence_id, DraftSequenceState::kAbsent, 0, Blocks()});
    } else {
      Breach("a command for a verifier");
    }
  }
}

void SimDraft::Append(const AppendTokens& command) {
  const auto found = sequences_.find(command.sequence_id);
  if (found == sequences_.end()) return Breach("AppendTokens of an unknown sequence");
  State& state = found->second;
  if (command.offset != static_cast<int32_t>(state.tokens.size())) Breach("tokens out of line");
  for (const TokenId token : command.token_ids) state.Push(token);
  if (static_cast<int32_t>(state.tokens.size()) < state.total_length) return;
  BringBack(command.sequence_id, per_depth * slowness_);
}

// Catch-up: of a new sequence, or of one that was evicted.
void SimDraft::BringBack(SequenceId id, absl::Duration delay) {
  clock_->After(delay, [this, id] {
    const auto still = sequences_.find(id);
    if (dead_ || still == sequences_.end() || still->second.forgotten) return;
    if (frozen()) {
      paused_back_.push_back(id);
      return;
    }
    State& state = still->second;
    state.ready = true;
    state.evicted = false;
    state.kv_length = static_cast<int32_t>(state.tokens.size());
    ++num_done_;
    Say(SequenceState{id, DraftSequenceState::kReady, state.kv_length, Blocks()});
  });
}

SimDraft::Branch* SimDraft::State::Find(int32_t num_accepted, TokenId root_token) {
  for (Branch& branch : branches) {
    if (branch.num_accepted == num_accepted && branch.root_token == root_token) return &branch;
  }
  return nullptr;
}

void SimDraft::CheckRollout(const StartRollout& command, const State& state) {
  if (command.path_offset > state.kv_length) Breach("path_offset beyond the draft's KV");
  if (command.path_offset + static_cast<int32_t>(command.path_tokens.size()) !=
      command.committed_length) {
    Breach("a path that does not reach committed_length");
  }
  if (command.depth < 1 || command.depth > hello_.limits.max_window || command.roots.empty()) {
    return Breach("a rollout without depth or root");
  }
  if (command.round_id < state.round_id) Breach("a rollout of an earlier round");
  if (command.round_id == state.round_id &&
      (command.window != state.window || command.depth != state.depth ||
       command.committed_length != static_cast<int32_t>(state.tokens.size()))) {
    Breach("one round's rollouts with two paths");
  }
  for (const TokenId token : command.window) {
    if (token < 0 || token >= kVocabulary) Breach("a rollout after a token that the target lacks");
  }
  for (const RolloutRoot& root : command.roots) CheckRoot(root, command);
}

void SimDraft::CheckRoot(const RolloutRoot& root, const StartRollout& command) {
  const int32_t window = static_cast<int32_t>(command.window.size());
  if (root.token.has_value() == (root.own_rank >= 0) || root.own_rank > kDraftVocabulary / 2) {
    Breach("a root that names nothing, or two things");
  }
  if (root.num_accepted < 0 || root.num_accepted > window) Breach("a root beyond the window");
  const int64_t reach = int64_t{command.committed_length} + root.num_accepted + 1 + command.depth;
  if (reach > hello_.context_length) Breach("a rollout beyond the draft's context");
  if (!root.token.has_value()) return;
  if (*root.token < 0 || *root.token >= kVocabulary) Breach("a root that the target lacks");
  if (root.num_accepted < window && *root.token == command.window[root.num_accepted]) {
    Breach("a root that is no outcome");
  }
}

void SimDraft::Refuse(const StartRollout& command) {
  for (const RolloutRoot& root : command.roots) {
    if (!root.token.has_value()) continue;
    RolloutProgress refused;
    refused.sequence_id = command.sequence_id;
    refused.round_id = command.round_id;
    refused.num_accepted = root.num_accepted;
    refused.root_token = *root.token;
    refused.last = true;
    Say(refused);
  }
}

void SimDraft::RollOut(const StartRollout& command) {
  const auto found = sequences_.find(command.sequence_id);
  if (found == sequences_.end()) return Breach("a rollout of an unknown sequence");
  State& state = found->second;
  if (state.forgotten) return;
  if (!state.ready) {
    if (!state.evicted) Breach("a rollout of a sequence that is not ready");
    state.refused_round = command.round_id;
    return Refuse(command);  // sent before the scheduler heard of the eviction
  }
  if (command.round_id == state.refused_round) return Refuse(command);  // the path was not taken
  // It was told more since, as committed: an older outcome is not rolled out.
  if (command.committed_length < static_cast<int32_t>(state.tokens.size())) return Refuse(command);
  CheckRollout(command, state);
  if (command.depth < 1) return;
  if (command.round_id != state.round_id) Replace(command, &state);
  for (const RolloutRoot& root : command.roots) Plant(command.sequence_id, root, &state);
}

// Another round's tree: of the old one nothing more is said, but what was computed is known.
void SimDraft::Replace(const StartRollout& command, State* state) {
  const size_t keep = std::min<size_t>(command.path_offset, state->tokens.size());
  state->tokens.resize(keep);
  state->prefixes.resize(keep);
  for (const TokenId token : command.path_tokens) {
    // What is committed comes from the target; with two numerics it is at least one of their streams.
    const Prefix prefix = state->PrefixAt(state->tokens.size());
    if (static_cast<int32_t>(state->tokens.size()) >= state->prompt_length &&
        token != TargetToken(prefix, 0) && token != TargetToken(prefix, 1)) {
      Breach("a path that was never committed");
    }
    state->Push(token);
  }
  state->kv_length = command.committed_length;
  ++state->generation;
  state->round_id = command.round_id;
  state->window = command.window;
  state->depth = command.depth;
  state->branches.clear();
}

// A root begins; one that is there already goes on.
void SimDraft::Plant(SequenceId id, const RolloutRoot& root, State* state) {
  if (root.token.has_value() && state->Find(root.num_accepted, *root.token) != nullptr) return;
  Prefix before = state->PrefixAt(state->tokens.size());
  for (int32_t i = 0; i < root.num_accepted; ++i) before = Extend(before, state->window.at(i));
  RolloutRoot named = root;
  if (!root.token.has_value() && state->known.contains(before)) named.token = Ranked(*state, root);
  if (named.token.has_value()) {
    if (state->Find(root.num_accepted, *named.token) != nullptr) return;
    Branch* branch = AddBranch(id, root.num_accepted, *named.token, state);
    if (branch->over) return;
  }
  Continue({id, state->generation, named});
}

// What an own rank means: where a window token follows, that one is left out.
TokenId SimDraft::Ranked(const State& state, const RolloutRoot& root) const {
  Prefix prefix = state.PrefixAt(state.tokens.size());
  for (int32_t i = 0; i < root.num_accepted; ++i) prefix = Extend(prefix, state.window[i]);
  const bool follows = root.num_accepted < static_cast<int32_t>(state.window.size());
  int left = root.own_rank;
  for (int rank = 0;; ++rank) {
    const TokenId token = DraftRanked(prefix, agreement, rank);
    if (follows && token == state.window[root.num_accepted]) continue;
    if (left-- == 0) return token;
  }
}

SimDraft::Branch* SimDraft::AddBranch(SequenceId id, int32_t num_accepted, TokenId root_token,
                                      State* state) {
  Branch branch{.num_accepted = num_accepted, .root_token = root_token, .ends_at = state->depth};
  branch.prefix = state->PrefixAt(state->tokens.size());
  for (int32_t i = 0; i < num_accepted; ++i) {
    branch.prefix = Extend(branch.prefix, state->window.at(i));
  }
  branch.prefix = Extend(branch.prefix, root_token);
  if (gives_up_one_in > 0 && Choice(branch.prefix, 81, gives_up_one_in) == 0) {
    branch.ends_at = static_cast<int32_t>(Choice(branch.prefix, 82, state->depth));
  }
  // Rows for so many branches, and no more.
  if (static_cast<int32_t>(state->branches.size()) >= hello_.limits.max_rows) branch.ends_at = 0;
  state->branches.push_back(branch);
  SayKnown(id, &state->branches.back(), state);
  return &state->branches.back();
}

// What the draft has already when a branch is asked for is said at once, and so is that it has nothing.
void SimDraft::SayKnown(SequenceId id, Branch* branch, State* state) {
  std::vector<TokenId> tokens;
  Prefix prefix = branch->prefix;
  while (static_cast<int32_t>(tokens.size()) < branch->ends_at && state->known.contains(prefix)) {
    tokens.push_back(DraftToken(prefix, agreement));
    prefix = Extend(prefix, tokens.back());
  }
  if (!tokens.empty() || branch->ends_at == 0) SayTokens(id, std::move(tokens), branch, *state);
}

void SimDraft::SayTokens(SequenceId id, std::vector<TokenId> tokens, Branch* branch,
                         const State& state) {
  RolloutProgress progress;
  progress.sequence_id = id;
  progress.round_id = state.round_id;
  progress.num_accepted = branch->num_accepted;
  progress.root_token = branch->root_token;
  progress.first_depth = branch->num_said;
  progress.started_at_ns = absl::ToUnixNanos(clock_->now());
  for (const TokenId token : tokens) branch->prefix = Extend(branch->prefix, token);
  branch->num_said += static_cast<int32_t>(tokens.size());
  branch->over = progress.last = branch->num_said == branch->ends_at;
  progress.token_ids = std::move(tokens);
  Say(progress);
}

// Cancelled while its round is the latest: each branch that goes no further says so.
void SimDraft::CancelTree(SequenceId id, State* state) {
  ++state->generation;
  for (Branch& branch : state->branches) {
    if (branch.over) continue;
    branch.ends_at = branch.num_said;
    SayTokens(id, {}, &branch, *state);
  }
  state->branches.clear();
  state->round_id = 0;
  state->known.clear();
}

void SimDraft::Continue(const Rollout& rollout) {
  const State& state = sequences_.at(rollout.id);
  absl::Duration step = per_depth * slowness_;
  if (state.branches.size() > 1 || !rollout.root.token.has_value()) {
    const uint64_t salt = state.branches.empty() ? 0 : state.branches.back().prefix;
    step = step * static_cast<int64_t>(1 + Choice(salt + num_done_, 83, 5)) / 3;
  }
  clock_->After(step, [this, rollout] { Roll(rollout); });
}

void SimDraft::Roll(const Rollout& rollout) {
  if (dead_) return;
  if (frozen()) {
    paused_.push_back(rollout);
    return;
  }
  const auto found = sequences_.find(rollout.id);
  if (found == sequences_.end() || found->second.generation != rollout.generation) return;
  State& state = found->second;
  if (state.forgotten) return;
  ++num_done_;
  Rollout next = rollout;
  if (!next.root.token.has_value()) {
    // The row before the root is computed: its own tokens have names.
    next.root.token = Ranked(state, rollout.root);
    if (state.Find(rollout.root.num_accepted, *next.root.token) != nullptr) return;
    Branch* named = AddBranch(rollout.id, rollout.root.num_accepted, *next.root.token, &state);
    if (!named->over) Continue(next);
    return;
  }
  Branch* branch = state.Find(rollout.root.num_accepted, *next.root.token);
  if (branch->over) return;
  if (state.known.size() > 256) state.known.clear();
  state.known.insert(branch->prefix);
  SayTokens(rollout.id, {DraftToken(branch->prefix, agreement)}, branch, state);
  if (!branch->over) Continue(next);
}

bool SimDraft::EvictOne() {
  for (auto& [id, state] : sequences_) {
    if (!state.ready || state.forgotten) continue;
    state.ready = false;
    state.evicted = true;
    CancelTree(id, &state);
    state.kv_length = 0;
    Say(SequenceState{id, DraftSequenceState::kEvicted, 0, Blocks()});
    BringBack(id, per_depth * 20);
    return true;
  }
  return false;
}

bool SimDraft::ForgetOne() {
  for (auto& [id, state] : sequences_) {
    if (!state.ready || state.forgotten) continue;
    state.forgotten = true;
    state.kv_length = 0;
    Say(SequenceState{id, DraftSequenceState::kAbsent, 0, Blocks()});
    return true;
  }
  return false;
}

int64_t SimDraft::Used() const {
  int64_t used = 0;
  for (const auto& [id, state] : sequences_) used += BlocksOf(state.kv_length);
  return std::min(used, hello_.blocks.total);
}

void SimDraft::Thaw() {
  Work();
  const std::vector<Rollout> paused = std::exchange(paused_, {});
  for (const Rollout& rollout : paused) {
    if (sequences_.contains(rollout.id)) Continue(rollout);
  }
  const std::vector<SequenceId> back = std::exchange(paused_back_, {});
  for (const SequenceId id : back) BringBack(id, per_depth);
}

}  // namespace mirrorsd::sim
