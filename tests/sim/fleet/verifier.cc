// The simulated verifier-worker, and what both kinds of worker have in common.

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/fleet/workers.h"

namespace mirrorsd::sim {

void SimWorker::Breach(const std::string& what) {
  if (!misled_) on_breach_(absl::StrCat(hello_.name, ": ", what));
}

void SimWorker::Receive(const WorkerCommand& command) {
  if (dead_) return;
  inbox_.push_back(command);
  // A stuck worker is closed before much has piled up.
  if (inbox_.size() > 64 + 16 * static_cast<size_t>(hello_.limits.max_sequences)) {
    Breach("commands pile up without bound");
  }
  Work();
}

void SimWorker::Freeze(bool hung, bool stalled) {
  const bool was_frozen = frozen();
  hung_ = hung;
  stalled_ = stalled;
  if (dead_ || frozen() || !was_frozen) return;
  thawed_at_ = clock_->now();
  Thaw();
}

void SimVerifier::Work() {
  while (!dead_ && !frozen() && !busy_ && !inbox_.empty()) {
    WorkerCommand command = std::move(inbox_.front());
    inbox_.pop_front();
    if (const auto* start = std::get_if<StartSequence>(&command)) {
      Start(*start);
    } else if (const auto* append = std::get_if<AppendTokens>(&command)) {
      Append(*append);
    } else if (const auto* end = std::get_if<EndSequence>(&command)) {
      End(*end);
    } else if (auto* verify = std::get_if<StartVerify>(&command)) {
      Begin(std::move(*verify));
    } else {
      Breach("a command for a draft");
    }
  }
}

void SimVerifier::Start(const StartSequence& command) {
  if (sequences_.contains(command.sequence_id)) Breach("a sequence started twice");
  if (command.prompt_length < 1 || command.total_length < command.prompt_length) {
    Breach("StartSequence with wrong lengths");
  }
  sequences_[command.sequence_id].total_length = command.total_length;
  if (static_cast<int>(sequences_.size()) > hello_.limits.max_sequences) {
    Breach("too many sequences");
  }
}

void SimVerifier::Append(const AppendTokens& command) {
  const auto found = sequences_.find(command.sequence_id);
  if (found == sequences_.end()) return Breach("AppendTokens of an unknown sequence");
  State& state = found->second;
  if (command.offset != static_cast<int32_t>(state.tokens.size()) ||
      command.token_ids.size() > kMaxTokensPerAppend || command.token_ids.empty()) {
    Breach("AppendTokens out of line");
  }
  for (const TokenId token : command.token_ids) {
    state.tokens.push_back(token);
    state.prefix = Extend(state.prefix, token);
  }
  const int32_t length = static_cast<int32_t>(state.tokens.size());
  if (length > state.total_length) Breach("more tokens than total_length");
  if (length < state.total_length) return;
  state.started = true;
  // What the prefix cache has: blocks of its own, where there is room for them.
  int32_t cached = Choice(state.prefix, 5, 3) == 0 ? (length - 1) / 2 : 0;
  if (used_ + BlocksOf(cached) > hello_.blocks.total) cached = 0;
  state.kv_length = cached;
  Cover(&state, cached);
  Say(SequenceStarted{command.sequence_id, state.kv_length});
}

void SimVerifier::End(const EndSequence& command) {
  const auto found = sequences_.find(command.sequence_id);
  if (found == sequences_.end()) return Breach("EndSequence of an unknown sequence");
  used_ -= found->second.blocks;
  sequences_.erase(found);
  Say(SequenceEnded{command.sequence_id, Blocks()});
}

// Blocks for `tokens` of the sequence, as a block table grows.
void SimVerifier::Cover(State* state, int64_t tokens) {
  const int64_t more = BlocksOf(tokens) - state->blocks;
  if (more <= 0) return;
  state->blocks += more;
  used_ += more;
  if (used_ > hello_.blocks.total) Breach("more KV than there is");
}

void SimVerifier::Begin(StartVerify command) {
  Check(command);
  round_ = std::move(command);
  busy_ = true;
  int64_t rows = 0;
  for (const VerifyItem& item : round_.items) {
    rows += item.is_prefill ? item.end - item.begin : static_cast<int64_t>(item.window.size()) + 1;
    const auto found = sequences_.find(item.sequence_id);
    if (found == sequences_.end()) continue;
    const int64_t window = static_cast<int64_t>(item.window.size());
    Cover(&found->second, item.is_prefill ? item.end : item.committed_length + window);
  }
  clock_->After((base + rows * per_row) * slowness_, [this] { Finish(); });
}

void SimVerifier::Check(const StartVerify& command) {
  int64_t rows = 0;
  std::set<SequenceId> ids;
  if (command.items.empty()) Breach("an empty round");
  for (const VerifyItem& item : command.items) {
    if (!ids.insert(item.sequence_id).second) Breach("a sequence twice in a round");
    rows += item.is_prefill ? item.end - item.begin : static_cast<int64_t>(item.window.size()) + 1;
    CheckItem(item);
  }
  if (rows > hello_.limits.max_rows) Breach("too many rows");
}

void SimVerifier::CheckItem(const VerifyItem& item) {
  const auto found = sequences_.find(item.sequence_id);
  if (found == sequences_.end()) return Breach("a round with an unknown sequence");
  const State& state = found->second;
  if (!state.started || item.committed_length != static_cast<int32_t>(state.tokens.size())) {
    return Breach("a round with a wrong committed_length");
  }
  if (item.is_prefill) {
    if (item.begin != state.kv_length || item.end <= item.begin || item.end > state.total_length) {
      Breach("a chunk out of line");
    }
    return;
  }
  if (state.kv_length != item.committed_length - 1 ||
      static_cast<int>(item.window.size()) > hello_.limits.max_window) {
    Breach("a window out of line");
  }
  for (const TokenId token : item.window) {
    if (token < 0 || token >= kVocabulary) Breach("a window token that the target lacks");
  }
  const int64_t reach = item.committed_length + static_cast<int64_t>(item.window.size());
  if (reach > hello_.context_length) Breach("a window beyond the context");
}

void SimVerifier::Finish() {
  if (dead_) return;
  if (frozen()) {
    unfinished_ = true;
    return;
  }
  busy_ = false;
  ++num_done_;
  for (const VerifyItem& item : round_.items) {
    Say(scheduler::VerifyItemReport{round_.round_id, Verify(item)});
  }
  Say(scheduler::VerifyRoundDone{round_.round_id, {}, Blocks()});
  Work();
}

void SimVerifier::Thaw() {
  if (unfinished_) {  // the round begins again
    unfinished_ = false;
    clock_->After(base * slowness_, [this] { Finish(); });
  }
  Work();
}

VerifyItemDone SimVerifier::Verify(const VerifyItem& item) {
  VerifyItemDone done;
  done.sequence_id = item.sequence_id;
  const auto found = sequences_.find(item.sequence_id);
  if (found == sequences_.end()) {
    done.error = WorkerError{"UNKNOWN_SEQUENCE", "never heard of it"};
    return done;
  }
  if (!next_error.empty()) {
    done.error = WorkerError{next_error, "simulated"};
    if (on_error) on_error(item.sequence_id, next_error);
    next_error.clear();
    return done;
  }
  State& state = found->second;
  if (item.is_prefill && item.end < state.total_length) {
    done.kv_length = state.kv_length = item.end;
    return done;
  }
  const auto push = [&state](TokenId token) {
    state.tokens.push_back(token);
    state.prefix = Extend(state.prefix, token);
  };
  for (const TokenId token : item.window) {
    if (TargetToken(state.prefix, numerics) != token) break;
    push(token);
    ++done.num_accepted;
  }
  done.correction_token = TargetToken(state.prefix, numerics);
  done.kv_length = state.kv_length = static_cast<int32_t>(state.tokens.size());
  push(*done.correction_token);
  // Blocks that lie wholly above the committed tokens are let go.
  const int64_t blocks = std::min(state.blocks, BlocksOf(static_cast<int64_t>(state.tokens.size())));
  used_ -= state.blocks - blocks;
  state.blocks = blocks;
  return done;
}

}  // namespace mirrorsd::sim
