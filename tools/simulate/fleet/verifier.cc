#include "tools/simulate/fleet/verifier.h"

#include <algorithm>
#include <variant>

#include "common/check.h"

namespace mirrorsd::simulate {

void DecodeRounds::Add(const DecodeRounds& other) {
  rounds += other.rounds;
  items += other.items;
  with_window += other.with_window;
  with_exit += other.with_exit;
  pass_ns += other.pass_ns;
  prefix_ns += other.prefix_ns;
  exit_ns += other.exit_ns;
  suffix_ns += other.suffix_ns;
  follow_ups += other.follow_ups;
  gap_ns += other.gap_ns;
}

void Verifier::Receive(std::vector<WorkerCommand> commands) {
  for (WorkerCommand& command : commands) {
    inbox_.emplace_back(std::move(command), queue_->now_ns());
  }
  Work();
}

void Verifier::Work() {
  while (!busy_ && !inbox_.empty()) {
    const auto [command, received_ns] = std::move(inbox_.front());
    inbox_.pop_front();
    if (const auto* start = std::get_if<StartSequence>(&command)) {
      Start(*start);
    } else if (const auto* append = std::get_if<AppendTokens>(&command)) {
      Append(*append);
    } else if (const auto* end = std::get_if<EndSequence>(&command)) {
      End(*end);
    } else if (const auto* verify = std::get_if<StartVerify>(&command)) {
      Begin(*verify, received_ns);
    }
  }
}

void Verifier::Start(const StartSequence& command) {
  CHECK(!sequences_.contains(command.sequence_id));
  Sequence& sequence = sequences_[command.sequence_id];
  sequence.kind = &text_->KindOf(command.sampling.seed);
  sequence.prefix = text_->Begin(command.sampling.seed);
  sequence.prompt_length = command.prompt_length;
  sequence.total_length = command.total_length;
}

void Verifier::Append(const AppendTokens& command) {
  const auto found = sequences_.find(command.sequence_id);
  CHECK(found != sequences_.end());
  Sequence& sequence = found->second;
  CHECK_EQ(command.offset, sequence.length);
  for (const TokenId token : command.token_ids) {
    if (sequence.length++ >= sequence.prompt_length) {
      sequence.prefix = Extend(sequence.prefix, token);
    }
  }
  CHECK_LE(sequence.length, sequence.total_length);
  if (sequence.length == sequence.total_length) {
    Say({SequenceStarted{command.sequence_id, /*cached_length=*/0}});
  }
}

void Verifier::End(const EndSequence& command) {
  const auto found = sequences_.find(command.sequence_id);
  CHECK(found != sequences_.end());
  used_blocks_ -= found->second.blocks;
  sequences_.erase(found);
  Say({SequenceEnded{command.sequence_id, Blocks()}});
  if (sequences_.empty()) free_since_ns_ = -1;
}

// Blocks as a block table grows.
void Verifier::Cover(Sequence* sequence, int64_t tokens) {
  const int64_t more = std::max<int64_t>(0, BlocksOf(tokens) - sequence->blocks);
  sequence->blocks += more;
  used_blocks_ += more;
  CHECK_LE(used_blocks_, total_blocks());
}

void Verifier::Begin(StartVerify command, int64_t received_ns) {
  Round round;
  for (const VerifyItem& item : command.items) {
    Sequence& sequence = sequences_.at(item.sequence_id);
    const int32_t window = static_cast<int32_t>(item.window.size());
    CHECK_EQ(item.committed_length, sequence.length);
    CHECK_EQ(sequence.kv_length, item.is_prefill ? item.begin : sequence.length - 1);
    const int32_t end = item.is_prefill ? item.end : sequence.length + window;
    const bool yields = !item.is_prefill || item.end == sequence.total_length;
    round.rows.rows += end - sequence.kv_length;
    round.rows.logits_rows += yields ? window + 1 : 0;
    round.rows.exit_rows += yields && item.branch_top_k > 0 ? window + 1 : 0;
    round.rows.kv_tokens += end;
    round.decodes_only = round.decodes_only && !item.is_prefill;
    Cover(&sequence, end);
  }
  round.wants_exit = round.rows.exit_rows > 0;
  CHECK_LE(round.rows.rows, spec_.limits.max_rows);
  round.command = std::move(command);
  round.received_ns = received_ns;
  round.begun_ns = queue_->now_ns();
  round.times = timer_.Run(round.begun_ns + spec_.host_ns / 2, round.rows,
                           round.wants_exit ? spec_.exit_layer : 0);
  Count(round);
  busy_ = true;
  round_ = std::move(round);
  if (round_.wants_exit) queue_->At(round_.times.exit_ns, [this] { ReportExit(); });
  queue_->At(round_.times.end_ns + spec_.host_ns / 2, [this] { Finish(); });
}

void Verifier::Count(const Round& round) {
  ++times_.passes;
  times_.rows += round.rows.rows;
  times_.busy_ns += round.times.end_ns + spec_.host_ns / 2 - round.begun_ns;
  if (!round.decodes_only) {
    free_since_ns_ = -1;
    return;
  }
  ++decode_.rounds;
  decode_.items += static_cast<int64_t>(round.command.items.size());
  for (const VerifyItem& item : round.command.items) decode_.with_window += !item.window.empty();
  decode_.with_exit += round.wants_exit;
  const int64_t end_ns = round.times.end_ns + spec_.host_ns / 2;
  decode_.pass_ns += end_ns - round.begun_ns;
  decode_.prefix_ns += round.times.prefix_ns - round.begun_ns;
  decode_.exit_ns += round.times.exit_ns - round.times.prefix_ns;
  decode_.suffix_ns += end_ns - round.times.exit_ns;
  if (free_since_ns_ >= 0) {
    ++decode_.follow_ups;
    decode_.gap_ns += round.begun_ns - free_since_ns_;
  }
}

VerifierPhaseTimes Verifier::Phases(const Round& round) const {
  return {.queue_ns = round.begun_ns - round.received_ns,
          .prefix_ns = round.times.prefix_ns - round.begun_ns,
          .exit_head_ns = round.times.exit_ns - round.times.prefix_ns,
          .suffix_ns = round.times.end_ns - round.times.exit_ns,
          .sample_ns = spec_.host_ns / 2};
}

void Verifier::ReportExit() {
  Reports reports;
  for (const VerifyItem& item : round_.command.items) {
    if (item.branch_top_k == 0) continue;
    const Sequence& sequence = sequences_.at(item.sequence_id);
    if (item.is_prefill && item.end < sequence.total_length) continue;
    reports.push_back(
        scheduler::EarlyExitItemReport{round_.command.round_id, Exit(item, sequence)});
  }
  VerifierPhaseTimes phases = Phases(round_);
  phases.suffix_ns = phases.sample_ns = 0;  // not over yet
  reports.push_back(scheduler::EarlyExitRoundReport{round_.command.round_id, queue_->now_ns(), phases});
  Say(std::move(reports));
}

EarlyExitItem Verifier::Exit(const VerifyItem& item, const Sequence& sequence) const {
  EarlyExitItem exit;
  exit.sequence_id = item.sequence_id;
  Prefix prefix = sequence.prefix;
  for (size_t row = 0; row <= item.window.size(); ++row) {
    const std::optional<TokenId> drafted =
        row < item.window.size() ? std::optional<TokenId>(item.window[row]) : std::nullopt;
    exit.rows.push_back(text_->Exit(*sequence.kind, prefix, drafted, item.branch_top_k));
    if (drafted.has_value()) prefix = Extend(prefix, *drafted);
  }
  return exit;
}

void Verifier::Finish() {
  busy_ = false;
  Reports reports;
  const RoundId id = round_.command.round_id;
  for (const VerifyItem& item : round_.command.items) {
    reports.push_back(scheduler::VerifyItemReport{id, Verify(item)});
  }
  reports.push_back(scheduler::VerifyRoundDone{id, Phases(round_), Blocks()});
  Say(std::move(reports));
  free_since_ns_ = queue_->now_ns();
  Work();
}

VerifyItemDone Verifier::Verify(const VerifyItem& item) {
  VerifyItemDone done;
  done.sequence_id = item.sequence_id;
  Sequence& sequence = sequences_.at(item.sequence_id);
  if (item.is_prefill && item.end < sequence.total_length) {
    done.kv_length = sequence.kv_length = item.end;
    return done;
  }
  const auto push = [&sequence](TokenId token) {
    ++sequence.length;
    sequence.prefix = Extend(sequence.prefix, token);
  };
  for (const TokenId token : item.window) {
    if (text_->Target(sequence.prefix) != token) break;
    push(token);
    ++done.num_accepted;
  }
  done.correction_token = text_->Target(sequence.prefix);
  done.kv_length = sequence.kv_length = sequence.length;
  push(*done.correction_token);
  // Blocks that lie wholly above the committed tokens are let go.
  const int64_t blocks = std::min(sequence.blocks, BlocksOf(sequence.length));
  used_blocks_ -= sequence.blocks - blocks;
  sequence.blocks = blocks;
  return done;
}

}  // namespace mirrorsd::simulate
