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

void SimDraft::CheckRollout(const StartRollout& command, const State& state) {
  if (command.path_offset > state.kv_length) Breach("path_offset beyond the draft's KV");
  if (command.path_offset + static_cast<int32_t>(command.path_tokens.size()) !=
      command.committed_length) {
    Breach("a path that does not reach committed_length");
  }
  if (command.depth < 1 || command.depth > hello_.limits.max_window ||
      !command.roots.at(0).token.has_value()) {
    Breach("a rollout without depth or root");
  }
}

void SimDraft::RollOut(const StartRollout& command) {
  const auto found = sequences_.find(command.sequence_id);
  if (found == sequences_.end()) return Breach("a rollout of an unknown sequence");
  State& state = found->second;
  if (state.forgotten) return;
  if (!state.ready) {
    if (!state.evicted) Breach("a rollout of a sequence that is not ready");
    return;  // sent before the scheduler heard of the eviction
  }
  const RolloutRoot& root = command.roots.at(0);
  if (command.committed_length < static_cast<int32_t>(state.tokens.size())) {
    // It was told more since, as committed: an older outcome is not rolled out.
    RolloutProgress refused;
    refused.sequence_id = command.sequence_id;
    refused.round_id = command.round_id;
    refused.num_accepted = root.num_accepted;
    refused.root_token = root.token.value_or(0);
    refused.last = true;
    return Say(refused);
  }
  CheckRollout(command, state);
  const size_t keep = std::min<size_t>(command.path_offset, state.tokens.size());
  state.tokens.resize(keep);
  state.prefixes.resize(keep);
  for (const TokenId token : command.path_tokens) {
    // What is committed comes from the target; with two numerics it is at least one of their streams.
    const Prefix prefix = state.PrefixAt(state.tokens.size());
    if (static_cast<int32_t>(state.tokens.size()) >= state.prompt_length &&
        token != TargetToken(prefix, 0) && token != TargetToken(prefix, 1)) {
      Breach("a path that was never committed");
    }
    state.Push(token);
  }
  state.kv_length = command.committed_length;
  Rollout rollout{command.sequence_id, ++state.generation, command.round_id, command.roots.at(0),
                  command.depth, 0, state.PrefixAt(state.tokens.size())};
  for (int32_t i = 0; i < rollout.root.num_accepted; ++i) {
    rollout.prefix = Extend(rollout.prefix, command.window.at(i));
  }
  rollout.prefix = Extend(rollout.prefix, *rollout.root.token);
  Continue(rollout);
}

void SimDraft::Continue(const Rollout& rollout) {
  clock_->After(per_depth * slowness_, [this, rollout] { Roll(rollout); });
}

void SimDraft::Roll(Rollout rollout) {
  if (dead_) return;
  if (frozen()) {
    paused_.push_back(rollout);
    return;
  }
  const auto found = sequences_.find(rollout.id);
  if (found == sequences_.end() || found->second.generation != rollout.generation) return;
  if (found->second.forgotten) return;
  ++num_done_;
  const TokenId token = DraftToken(rollout.prefix, agreement);
  rollout.prefix = Extend(rollout.prefix, token);
  RolloutProgress progress;
  progress.sequence_id = rollout.id;
  progress.round_id = rollout.round_id;
  progress.num_accepted = rollout.root.num_accepted;
  progress.root_token = *rollout.root.token;
  progress.first_depth = rollout.next_depth++;
  progress.token_ids = {token};
  progress.last = rollout.next_depth == rollout.depth;
  Say(progress);
  if (!progress.last) Continue(rollout);
}

bool SimDraft::EvictOne() {
  for (auto& [id, state] : sequences_) {
    if (!state.ready || state.forgotten) continue;
    state.ready = false;
    state.evicted = true;
    ++state.generation;
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
  for (const Rollout& rollout : paused) Continue(rollout);
  const std::vector<SequenceId> back = std::exchange(paused_back_, {});
  for (const SequenceId id : back) BringBack(id, per_depth);
}

}  // namespace mirrorsd::sim
