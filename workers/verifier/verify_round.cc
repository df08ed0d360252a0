#include "workers/verifier/verify_round.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/session/worker_hello.h"

namespace mirrorsd::workers {
namespace {

// The exit's largest processed logits that get noise.
constexpr int32_t kExitNoiseTop = 64;

}  // namespace

VerifyRound::VerifyRound(engine::Engine* engine, VerifiedSequences* sequences,
                         engine::Sampler* sampler, engine::Clock* clock,
                         const WorkerLimits& limits, int32_t early_exit_layer)
    : engine_(engine),
      sequences_(sequences),
      sampler_(sampler),
      clock_(clock),
      limits_(limits),
      early_exit_layer_(early_exit_layer) {}

VerifyDone VerifyRound::Run(const StartVerify& command, const OnExit& on_exit) {
  VerifyDone done{.round_id = command.round_id};
  done.items.reserve(command.items.size());
  for (const VerifyItem& item : command.items) {
    Part part{.index = done.items.size(), .item = &item};
    VerifyItemDone& entry = done.items.emplace_back();
    entry.sequence_id = item.sequence_id;
    entry.error = Plan(item, &part);
    if (!entry.error.has_value()) entry.error = Admit(std::move(part));
  }
  if (num_rows_ > 0) {
    EarlyExitReported exit{.round_id = command.round_id};
    const absl::StatusOr<engine::Logits> logits = RunPass(&exit, on_exit, &done.times);
    const int64_t sampling_from_ns = clock_->NowNs();
    for (const Part& part : parts_) {
      if (part.num_rows() == 0) continue;
      VerifyItemDone* entry = &done.items[part.index];
      if (logits.ok()) {
        Finish(part, *logits, entry);
      } else {
        entry->error = ToWorkerError(logits.status());
      }
    }
    done.times.sample_ns = clock_->NowNs() - sampling_from_ns;
  }
  for (VerifyItemDone& entry : done.items) {
    if (VerifiedSequence* sequence = sequences_->Find(entry.sequence_id)) {
      sequence->cache.ReleaseAbove(sequence->committed_length());
      entry.kv_length = sequence->kv_length();
    }
  }
  return done;
}

std::optional<WorkerError> VerifyRound::Plan(const VerifyItem& item, Part* part) const {
  VerifiedSequence* sequence = sequences_->Find(item.sequence_id);
  if (sequence == nullptr) {
    return WorkerError{"UNKNOWN_SEQUENCE", absl::StrCat("sequence ", item.sequence_id)};
  }
  if (sequence->refused.has_value()) return sequence->refused;
  if (!sequence->started) {
    return WorkerError{"NOT_STARTED", absl::StrCat(sequence->committed_length(), " of ",
                                                   sequence->total_length, " tokens are there")};
  }
  for (const Part& other : parts_) {
    if (other.sequence == sequence) {
      return WorkerError{"REPEATED_SEQUENCE", "a round has one item of a sequence"};
    }
  }
  if (item.committed_length != sequence->committed_length()) {
    return WorkerError{"WRONG_LENGTH",
                       absl::StrCat("committed_length is ", sequence->committed_length(), ", not ",
                                    item.committed_length)};
  }
  part->sequence = sequence;
  return item.is_prefill ? PlanPrefill(item, part) : PlanWindow(item, part);
}

std::optional<WorkerError> VerifyRound::PlanPrefill(const VerifyItem& item, Part* part) const {
  const VerifiedSequence& sequence = *part->sequence;
  const int32_t length = sequence.committed_length();
  if (item.begin < 0 || item.begin >= item.end || item.end > length ||
      item.begin > sequence.kv_length() || !item.window.empty()) {
    return WorkerError{"BAD_RANGE",
                       absl::StrCat("range ", item.begin, " to ", item.end, " of ", length,
                                    " tokens, of which ", sequence.kv_length(), " have KV")};
  }
  part->yields_token = item.end == length;
  // What has KV already, by the prefix cache or a repeated chunk, is not computed again.
  part->begin = std::max(item.begin, sequence.kv_length());
  if (part->begin < item.end) {
    const absl::Span<const TokenId> rows =
        sequence.sampling.tokens().subspan(part->begin, item.end - part->begin);
    part->row_tokens.assign(rows.begin(), rows.end());
  }
  return std::nullopt;
}

std::optional<WorkerError> VerifyRound::PlanWindow(const VerifyItem& item, Part* part) const {
  const VerifiedSequence& sequence = *part->sequence;
  const int32_t length = sequence.committed_length();
  const int64_t window = static_cast<int64_t>(item.window.size());
  if (sequence.kv_length() != length - 1) {
    return WorkerError{"NOT_PREFILLED", absl::StrCat(sequence.kv_length(), " of ", length - 1,
                                                     " tokens have KV")};
  }
  if (window > limits_.max_window) {
    return WorkerError{"WINDOW_TOO_LONG",
                       absl::StrCat(window, " tokens (limit: ", limits_.max_window, ")")};
  }
  if (length + window > engine_->info().context_length) {
    return WorkerError{"CONTEXT_EXCEEDED",
                       absl::StrCat(length, " tokens and a window of ", window, " (limit: ",
                                    engine_->info().context_length, ")")};
  }
  if (!IsInVocabulary(item.window, engine_->info().vocabulary_size)) {
    return WorkerError{"BAD_TOKEN", absl::StrCat("a window token outside 0 to ",
                                                 engine_->info().vocabulary_size - 1)};
  }
  part->yields_token = true;
  part->begin = length - 1;
  part->row_tokens.push_back(sequence.sampling.tokens().back());
  part->row_tokens.insert(part->row_tokens.end(), item.window.begin(), item.window.end());
  return std::nullopt;
}

std::optional<WorkerError> VerifyRound::Admit(Part part) {
  if (num_rows_ + part.num_rows() > limits_.max_rows ||
      num_logits_rows_ + part.num_logits_rows() > engine_->info().max_logits_rows) {
    return WorkerError{"TOO_MANY_ROWS",
                       absl::StrCat("rows of the round so far ", num_rows_, ", more wanted ",
                                    part.num_rows(), " (limit: ", limits_.max_rows, ", with logits ",
                                    engine_->info().max_logits_rows, ")")};
  }
  if (!part.sequence->cache.Reserve(part.begin + part.num_rows())) {
    const KvBlocks blocks = CountBlocks(engine_->blocks());
    return WorkerError{"KV_EXHAUSTED",
                       absl::StrCat("no blocks for ", part.begin + part.num_rows(), " tokens; ",
                                    blocks.free + blocks.evictable, " of ", blocks.total,
                                    " are free")};
  }
  part.first_logits_row = num_logits_rows_;
  num_rows_ += part.num_rows();
  num_logits_rows_ += part.num_logits_rows();
  parts_.push_back(std::move(part));
  return std::nullopt;
}

absl::StatusOr<engine::Logits> VerifyRound::RunPass(EarlyExitReported* exit, const OnExit& on_exit,
                                                    VerifierPhaseTimes* times) {
  std::vector<engine::SequenceRows> rows;
  rows.reserve(parts_.size());
  for (const Part& part : parts_) {
    if (part.num_rows() == 0) continue;
    rows.push_back({.token_ids = part.row_tokens,
                    .begin = part.begin,
                    .block_table = part.sequence->cache.block_table(),
                    .logits_begin = part.num_rows() - part.num_logits_rows()});
  }
  const int64_t started_ns = clock_->NowNs();
  if (absl::Status status = engine_->BeginPass(rows); !status.ok()) return status;
  // Cut in any case, so that what the two parts cost is known before anybody asks for an exit.
  if (early_exit_layer_ > 0) engine_->RunLayers(0, early_exit_layer_);
  const int64_t prefix_end_ns = clock_->NowNs();
  times->prefix_ns = prefix_end_ns - started_ns;
  if (early_exit_layer_ > 0 && std::any_of(parts_.begin(), parts_.end(), [](const Part& part) {
        return part.asks();
      })) {
    if (absl::Status status = RunExit(exit); !status.ok()) return status;
    times->exit_head_ns = clock_->NowNs() - prefix_end_ns;
    exit->times = *times;
    if (!exit->items.empty()) on_exit(std::move(*exit));
  }
  const int64_t suffix_from_ns = clock_->NowNs();
  engine_->RunLayers(early_exit_layer_, engine_->info().num_layers);
  absl::StatusOr<engine::Logits> logits = engine_->Head();
  times->suffix_ns = clock_->NowNs() - suffix_from_ns;
  return logits;
}

absl::Status VerifyRound::RunExit(EarlyExitReported* exit) {
  std::vector<int32_t> rows;
  for (const Part& part : parts_) {
    if (!part.asks()) continue;
    for (int32_t r = 0; r < part.num_logits_rows(); ++r) rows.push_back(part.first_logits_row + r);
  }
  const absl::StatusOr<engine::Logits> logits = engine_->Head(rows);
  if (!logits.ok()) return logits.status();
  int32_t first_row = 0;
  for (const Part& part : parts_) {
    if (!part.asks()) continue;
    if (std::optional<EarlyExitItem> item = Foresee(part, *logits, first_row)) {
      exit->items.push_back(*std::move(item));
    }
    first_row += part.num_logits_rows();
  }
  return absl::OkStatus();
}

std::optional<EarlyExitItem> VerifyRound::Foresee(const Part& part, const engine::Logits& logits,
                                                  int32_t first_row) {
  engine::SamplingState& sampling = part.sequence->sampling;
  const std::vector<TokenId>& window = part.item->window;
  const int32_t length = sampling.length();
  const int32_t top_k = std::min(part.item->branch_top_k, kMaxBranchTopK);
  EarlyExitItem item{.sequence_id = part.item->sequence_id};
  for (int32_t row = 0; row < part.num_logits_rows(); ++row) {
    std::optional<TokenId> drafted;
    if (row < static_cast<int32_t>(window.size())) drafted = window[row];
    absl::StatusOr<EarlyExitRow> foreseen =
        sampler_->Foresee(sampling, logits.Row(first_row + row), drafted, top_k, kExitNoiseTop);
    if (!foreseen.ok()) break;
    item.rows.push_back(*std::move(foreseen));
    // The next row sees the window's tokens so far as if they were final.
    if (drafted.has_value()) sampling.Append(*drafted);
  }
  sampling.Truncate(length);
  if (static_cast<int32_t>(item.rows.size()) < part.num_logits_rows()) return std::nullopt;
  return item;
}

void VerifyRound::Finish(const Part& part, const engine::Logits& logits, VerifyItemDone* done) {
  VerifiedSequence& sequence = *part.sequence;
  engine::SamplingState& sampling = sequence.sampling;
  const int32_t length = sampling.length();
  const std::vector<TokenId>& window = part.item->window;
  int32_t num_accepted = 0;
  for (int32_t row = 0; row < part.num_logits_rows(); ++row) {
    const absl::StatusOr<TokenId> token = sampler_->Sample(sampling, logits.Row(part.first_logits_row + row));
    if (!token.ok()) {
      // Nothing of the window is kept: the tokens are those before the round.
      sampling.Truncate(length);
      done->error = ToWorkerError(token.status());
      return;
    }
    sampling.Append(*token);
    if (row == static_cast<int32_t>(window.size()) || window[row] != *token) {
      done->correction_token = *token;
      break;
    }
    ++num_accepted;
  }
  done->num_accepted = num_accepted;
  // KV is final for the rows' tokens up to the last accepted one; the correction token has none yet.
  const int32_t kv_end =
      part.yields_token ? length + num_accepted : part.begin + part.num_rows();
  sequence.cache.Commit(sampling.tokens().subspan(sequence.kv_length(),
                                                  kv_end - sequence.kv_length()));
}

}  // namespace mirrorsd::workers
