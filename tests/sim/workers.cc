#include "tests/sim/workers.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mirrorsd::sim {

void SimWorker::Breach(const std::string& what) {
  if (misled_) return;
  world_->Violation(absl::StrCat(hello_.name, ": ", what));
}

void SimWorker::set_hung(bool hung) {
  hung_ = hung;
  if (!hung_ && !dead_) Resume();
}

// ---- verifier -------------------------------------------------------------------------------------

void SimVerifier::Handle(const WorkerCommand& command) {
  if (const auto* start = std::get_if<StartSequence>(&command)) {
    if (sequences_.contains(start->sequence_id)) Breach("a sequence started twice");
    if (start->prompt_length < 1 || start->total_length < start->prompt_length) {
      Breach("StartSequence with wrong lengths");
    }
    sequences_[start->sequence_id].total_length = start->total_length;
    if (static_cast<int>(sequences_.size()) > hello_.limits.max_sequences) {
      Breach("too many sequences");
    }
  } else if (const auto* append = std::get_if<AppendTokens>(&command)) {
    Append(*append);
  } else if (const auto* verify = std::get_if<StartVerify>(&command)) {
    Check(*verify);
    line_.push_back(*verify);
    StartNext();
  } else if (const auto* end = std::get_if<EndSequence>(&command)) {
    if (sequences_.erase(end->sequence_id) == 0) Breach("EndSequence of an unknown sequence");
    Say(SequenceEnded{end->sequence_id, Blocks()});
  } else {
    Breach("a command for a draft");
  }
  if (Used() > hello_.blocks.total) Breach("more KV than there is");
}

void SimVerifier::Append(const AppendTokens& command) {
  const auto found = sequences_.find(command.sequence_id);
  if (found == sequences_.end()) return Breach("AppendTokens of an unknown sequence");
  State& state = found->second;
  if (command.offset != static_cast<int32_t>(state.tokens.size()) ||
      command.token_ids.size() > kMaxTokensPerAppend || command.token_ids.empty()) {
    Breach("AppendTokens out of line");
  }
  state.tokens.insert(state.tokens.end(), command.token_ids.begin(), command.token_ids.end());
  const int32_t length = static_cast<int32_t>(state.tokens.size());
  if (length > state.total_length) Breach("more tokens than total_length");
  if (length < state.total_length) return;
  state.started = true;
  state.kv_length =
      static_cast<int32_t>(HashPrefix(state.tokens, 5) % 3 == 0 ? (length - 1) / 2 : 0);
  Say(SequenceStarted{command.sequence_id, state.kv_length});
}

void SimVerifier::Check(const StartVerify& command) {
  int64_t rows = 0;
  std::set<SequenceId> ids;
  if (command.items.empty()) Breach("an empty round");
  if (!line_.empty() || busy_) Breach("two rounds at once in serial speculation");
  for (const VerifyItem& item : command.items) {
    if (!ids.insert(item.sequence_id).second) Breach("a sequence twice in a round");
    const auto found = sequences_.find(item.sequence_id);
    if (found == sequences_.end()) {
      Breach("a round with an unknown sequence");
      continue;
    }
    const State& state = found->second;
    rows += item.is_prefill ? item.end - item.begin : int64_t(item.window.size()) + 1;
    if (!state.started || item.committed_length != static_cast<int32_t>(state.tokens.size())) {
      Breach("a round with a wrong committed_length");
    }
    if (item.is_prefill) {
      if (item.begin != state.kv_length || item.end <= item.begin ||
          item.end > state.total_length) {
        Breach("a chunk out of line");
      }
    } else if (state.kv_length != item.committed_length - 1 ||
               static_cast<int>(item.window.size()) > hello_.limits.max_window) {
      Breach("a window out of line");
    }
    for (const TokenId token : item.window) {
      if (token < 0 || token >= kVocabulary) Breach("a window token that the target lacks");
    }
    const int64_t reach = item.committed_length + static_cast<int64_t>(item.window.size());
    if (reach > hello_.context_length) Breach("a window beyond the context");
  }
  if (rows > hello_.limits.max_rows) Breach("too many rows");
}

void SimVerifier::StartNext() {
  if (busy_ || hung_ || dead_ || line_.empty()) return;
  busy_ = true;
  const int64_t rows = static_cast<int64_t>(line_.front().items.size());
  auto self = std::static_pointer_cast<SimVerifier>(shared_from_this());
  world_->After(base + rows * per_row, [self] {
    self->busy_ = false;
    if (self->dead_ || self->hung_) return;  // a hung one begins the round again
    const StartVerify command = std::move(self->line_.front());
    self->line_.pop_front();
    for (const VerifyItem& item : command.items) {
      self->Say(scheduler::VerifyItemReport{command.round_id, self->Verify(item)});
    }
    if (self->Used() > self->hello_.blocks.total) self->Breach("more KV than there is");
    self->Say(scheduler::VerifyRoundDone{command.round_id, {}, self->Blocks()});
    self->StartNext();
  });
}

VerifyItemDone SimVerifier::Verify(const VerifyItem& item) {
  VerifyItemDone done;
  done.sequence_id = item.sequence_id;
  const auto found = sequences_.find(item.sequence_id);
  if (found == sequences_.end()) {
    done.error = WorkerError{"UNKNOWN_SEQUENCE", "it was ended before the round"};
    return done;
  }
  if (nan_one_in > 0 && world_->random().OneIn(nan_one_in)) {
    done.error = WorkerError{"NAN_LOGITS", "simulated"};
    if (on_nan) on_nan();
    return done;
  }
  if (kv_exhausted_one_in > 0 && world_->random().OneIn(kv_exhausted_one_in)) {
    done.error = WorkerError{"KV_EXHAUSTED", "simulated"};
    return done;
  }
  State& state = found->second;
  if (item.is_prefill && item.end < state.total_length) {
    done.kv_length = state.kv_length = item.end;
    return done;
  }
  for (const TokenId token : item.window) {
    if (TargetToken(state.tokens, numerics) != token) break;
    state.tokens.push_back(token);
    ++done.num_accepted;
  }
  done.correction_token = TargetToken(state.tokens, numerics);
  done.kv_length = state.kv_length = static_cast<int32_t>(state.tokens.size());
  state.tokens.push_back(*done.correction_token);
  return done;
}

int64_t SimVerifier::Used() const {
  int64_t used = 0;
  for (const auto& [id, state] : sequences_) used += BlocksOf(state.kv_length);
  return used;
}

// ---- draft ----------------------------------------------------------------------------------------

void SimDraft::Handle(const WorkerCommand& command) {
  if (hung_) {
    stuck_.push_back([this, command] { Handle(command); });
    return;
  }
  if (const auto* start = std::get_if<StartSequence>(&command)) {
    if (sequences_.contains(start->sequence_id)) Breach("a sequence started twice");
    State& state = sequences_[start->sequence_id];
    state.prompt_length = start->prompt_length;
    state.total_length = start->total_length;
  } else if (const auto* append = std::get_if<AppendTokens>(&command)) {
    const auto found = sequences_.find(append->sequence_id);
    if (found == sequences_.end()) return Breach("AppendTokens of an unknown sequence");
    State& state = found->second;
    if (append->offset != static_cast<int32_t>(state.tokens.size())) Breach("tokens out of line");
    state.tokens.insert(state.tokens.end(), append->token_ids.begin(), append->token_ids.end());
    if (static_cast<int32_t>(state.tokens.size()) < state.total_length) return;
    BringBack(append->sequence_id, per_depth);
  } else if (const auto* rollout = std::get_if<StartRollout>(&command)) {
    RollOut(*rollout);
  } else if (const auto* end = std::get_if<EndSequence>(&command)) {
    if (sequences_.erase(end->sequence_id) == 0) Breach("EndSequence of an unknown sequence");
    Say(SequenceState{end->sequence_id, DraftSequenceState::kAbsent, 0, Blocks()});
  } else {
    Breach("a command for a verifier");
  }
}

// Catch-up: of a new sequence, or of one that was evicted.
void SimDraft::BringBack(SequenceId id, absl::Duration delay) {
  auto self = std::static_pointer_cast<SimDraft>(shared_from_this());
  world_->After(delay, [self, id] {
    const auto still = self->sequences_.find(id);
    if (self->dead_ || still == self->sequences_.end()) return;
    State& state = still->second;
    state.ready = true;
    state.kv_length = static_cast<int32_t>(state.tokens.size());
    self->Say(SequenceState{id, DraftSequenceState::kReady, state.kv_length, self->Blocks()});
  });
}

void SimDraft::RollOut(const StartRollout& command) {
  const auto found = sequences_.find(command.sequence_id);
  if (found == sequences_.end()) return Breach("a rollout of an unknown sequence");
  State& state = found->second;
  const RolloutRoot& root = command.roots.at(0);
  if (!state.ready) {
    if (!state.evicted) Breach("a rollout of a sequence that is not ready");
    return;  // sent before the scheduler heard of the eviction
  }
  if (command.path_offset > state.kv_length) return Breach("path_offset beyond the draft's KV");
  if (command.path_offset + static_cast<int32_t>(command.path_tokens.size()) !=
      command.committed_length) {
    return Breach("a path that does not reach committed_length");
  }
  if (command.depth < 1 || command.depth > hello_.limits.max_window || !root.token.has_value()) {
    return Breach("a rollout without depth or root");
  }
  state.tokens.resize(command.path_offset);
  state.tokens.insert(state.tokens.end(), command.path_tokens.begin(), command.path_tokens.end());
  // What is committed comes from the target; with two numerics it is at least one of their streams.
  for (int32_t i = state.prompt_length; i < command.committed_length; ++i) {
    const absl::Span<const TokenId> prefix(state.tokens.data(), i);
    if (state.tokens[i] != TargetToken(prefix, 0) && state.tokens[i] != TargetToken(prefix, 1)) {
      return Breach("a path that was never committed");
    }
  }
  state.kv_length = command.committed_length;
  const uint64_t generation = ++state.generation;
  if (evict_one_in > 0 && world_->random().OneIn(evict_one_in)) {
    state.ready = false;
    state.evicted = true;
    Say(SequenceState{command.sequence_id, DraftSequenceState::kEvicted, 0, Blocks()});
    BringBack(command.sequence_id, per_depth * 20);
    return;
  }
  Continue(command.sequence_id, generation, command, 0);
}

void SimDraft::Continue(SequenceId id, uint64_t generation, StartRollout command, int32_t depth) {
  auto self = std::static_pointer_cast<SimDraft>(shared_from_this());
  world_->After(per_depth, [self, id, generation, command = std::move(command), depth] {
    if (self->dead_) return;
    if (self->hung_) {
      self->stuck_.push_back(
          [draft = self.get(), id, generation, command, depth] {
            draft->Continue(id, generation, command, depth);
          });
      return;
    }
    const auto found = self->sequences_.find(id);
    if (found == self->sequences_.end() || found->second.generation != generation) return;
    const RolloutRoot& root = command.roots[0];
    std::vector<TokenId> path = found->second.tokens;
    path.resize(command.committed_length);
    path.insert(path.end(), command.window.begin(), command.window.begin() + root.num_accepted);
    path.push_back(*root.token);
    TokenId token = 0;
    for (int32_t i = 0; i <= depth; ++i) {
      token = DraftToken(path, self->agreement);
      path.push_back(token);
    }
    const bool last = depth + 1 == command.depth;
    RolloutProgress progress;
    progress.sequence_id = id;
    progress.round_id = command.round_id;
    progress.num_accepted = root.num_accepted;
    progress.root_token = *root.token;
    progress.first_depth = depth;
    progress.token_ids = {token};
    progress.last = last;
    self->Say(progress);
    if (!last) self->Continue(id, generation, command, depth + 1);
  });
}

int64_t SimDraft::Used() const {
  int64_t used = 0;
  for (const auto& [id, state] : sequences_) used += BlocksOf(state.kv_length);
  return std::min(used, hello_.blocks.total);
}

void SimDraft::Resume() {
  std::deque<std::function<void()>> stuck = std::exchange(stuck_, {});
  for (const auto& what : stuck) what();
}

}  // namespace mirrorsd::sim
