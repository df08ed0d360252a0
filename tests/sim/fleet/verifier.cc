// The simulated verifier-worker, and what both kinds of worker have in common.

#include <algorithm>
#include <limits>
#include <optional>
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
  const absl::Duration lasts = (base + rows * per_row) * slowness_;
  clock_->After(lasts, [this] { Finish(); });
  const bool asked = std::any_of(round_.items.begin(), round_.items.end(),
                                 [](const VerifyItem& item) { return item.branch_top_k > 0; });
  const RoundId id = round_.round_id;
  if (!asked || (exit_mute > 0 && Choice(id, 61, exit_mute) == 0)) return;
  clock_->After(lasts * static_cast<int64_t>(10 + Choice(id, 62, 85)) / 100,
                [this, id] { ReportExit(id); });
}

// Of what asked for it, but for items whose exit has no numbers to tell.
void SimVerifier::ReportExit(RoundId round_id) {
  if (dead_ || frozen() || !busy_ || round_.round_id != round_id) return;
  bool any = false;
  for (const VerifyItem& item : round_.items) {
    const auto found = sequences_.find(item.sequence_id);
    if (item.branch_top_k == 0 || found == sequences_.end()) continue;
    if (exit_mute > 0 && Choice(found->second.prefix, 63, 20) == 0) continue;
    any = true;
    Say(scheduler::EarlyExitItemReport{round_id, Foresee(item, found->second)});
  }
  if (any) Say(scheduler::EarlyExitRoundReport{round_id, absl::ToUnixNanos(clock_->now()), {}});
}

EarlyExitItem SimVerifier::Foresee(const VerifyItem& item, const State& state) const {
  EarlyExitItem result{.sequence_id = item.sequence_id};
  Prefix prefix = state.prefix;
  for (const TokenId token : item.window) {
    result.rows.push_back(ForeseeRow(prefix, token, item.branch_top_k));
    prefix = Extend(prefix, token);
  }
  result.rows.push_back(ForeseeRow(prefix, std::nullopt, item.branch_top_k));
  return result;
}

// The exit holds one token for the target's, mostly rightly, and says so by gaps of any size, now and then absurd.
EarlyExitRow SimVerifier::ForeseeRow(Prefix prefix, std::optional<TokenId> drafted,
                                     int32_t top_k) const {
  const bool knows = Choice(prefix, 64, 100) < static_cast<uint64_t>(exit_recall);
  const TokenId truth = TargetToken(prefix, numerics);
  const TokenId best = knows ? truth : (truth + 5) % kVocabulary;
  const float lowest = std::numeric_limits<float>::lowest();
  EarlyExitRow row;
  float score = static_cast<float>(Choice(prefix, 65, 40)) - 10;
  if (drafted.has_value()) {
    const float far = Choice(prefix, 66, 50) == 0 ? lowest : score - 1 - static_cast<float>(Choice(prefix, 67, 9));
    row.drafted_score = *drafted == best ? score : far;
    if (*drafted == best) score -= static_cast<float>(Choice(prefix, 68, 6));
  }
  const int32_t count = Choice(prefix, 69, 30) == 0 ? top_k / 2 : top_k;
  for (TokenId next = best; static_cast<int32_t>(row.candidates.size()) < count;
       next = (next + 1) % kVocabulary) {
    if (next == drafted) continue;
    row.candidates.push_back({next, Choice(prefix, 70, 50) == 0 ? -lowest : score});
    score -= static_cast<float>(Choice(prefix + row.candidates.size(), 71, 4));
  }
  return row;
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
  if (item.branch_top_k < 0 || item.branch_top_k > kMaxBranchTopK ||
      (item.branch_top_k > 0 && item.is_prefill && item.end < state.total_length)) {
    Breach("candidates wanted that cannot be");
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
