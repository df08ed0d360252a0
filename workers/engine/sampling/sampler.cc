#include "workers/engine/sampling/sampler.h"

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "common/ieee_math.h"
#include "workers/engine/sampling/row_ops.h"

namespace mirrorsd::engine {
namespace {

absl::Status NanLogits(const SamplingState& state, const RowPeak& peak) {
  const char* what = peak.has_nan         ? "the logits hold NaN"
                     : peak.value > 0.0f  ? "the logits hold +infinity"
                                          : "no token is left to choose: all logits are -infinity";
  return MakeError(absl::StatusCode::kInternal,
                   absl::StrCat(what, " at output position ", state.output_position()),
                   ErrorInfo{.reason = "NAN_LOGITS"});
}

bool IsUsable(const RowPeak& peak) {
  const float infinity = std::numeric_limits<float>::infinity();
  return !peak.has_nan && peak.token >= 0 && peak.value < infinity && peak.value > -infinity;
}

bool ScoresHigher(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.token < b.token;
}

}  // namespace

Sampler::Sampler(int32_t vocabulary_size, int32_t max_noise_rows)
    : vocabulary_size_(vocabulary_size), noise_(vocabulary_size, max_noise_rows) {}

absl::StatusOr<TokenId> Sampler::Sample(const SamplingState& state, absl::Span<float> row) {
  CHECK_EQ(row.size(), static_cast<size_t>(vocabulary_size_));
  ApplyBiasAndPenalties(state, row);
  if (!state.is_greedy()) {
    DivideRow(row, state.parameters().temperature);
    if (RowFilter::IsActive(state.parameters())) {
      const RowPeak peak = FindPeak(row);
      if (!IsUsable(peak)) return NanLogits(state, peak);
      return SampleFiltered(state, row, peak.value);
    }
    AddRow(row, noise_.Row(state.noise_key()));
  }
  const RowPeak peak = FindPeak(row);
  if (!IsUsable(peak)) return NanLogits(state, peak);
  return peak.token;
}

absl::StatusOr<TokenId> Sampler::SampleFiltered(const SamplingState& state,
                                                absl::Span<float> row, float peak) {
  const NoiseKey key = state.noise_key();
  Candidate best{.token = -1};
  for (const RankedToken& kept : filter_.Keep(state.parameters(), row, peak)) {
    const Candidate scored{kept.token, ieee::Add(kept.logit, GumbelNoise(key, kept.token))};
    if (best.token < 0 || ScoresHigher(scored, best)) best = scored;
  }
  CHECK_GE(best.token, 0);
  return best.token;
}

absl::StatusOr<absl::Span<const Candidate>> Sampler::Rank(const SamplingState& state,
                                                          absl::Span<float> row,
                                                          int32_t noise_top) {
  CHECK_LE(row.size(), static_cast<size_t>(vocabulary_size_));
  ApplyBiasAndPenalties(state, row);
  const bool greedy = state.is_greedy();
  if (!greedy) DivideRow(row, state.parameters().temperature);
  const RowPeak peak = FindPeak(row);
  if (!IsUsable(peak)) return NanLogits(state, peak);
  candidates_.clear();
  if (greedy && noise_top == 1) {
    candidates_.push_back({peak.token, peak.value});
    return absl::Span<const Candidate>(candidates_);
  }
  const absl::Span<const RankedToken> kept =
      greedy ? filter_.Largest(row, noise_top, -std::numeric_limits<float>::infinity())
             : filter_.Keep(state.parameters(), row, peak.value, noise_top);
  const NoiseKey key = state.noise_key();
  for (const RankedToken& one : kept) {
    const float noise = greedy ? 0.0f : GumbelNoise(key, one.token);
    candidates_.push_back({one.token, ieee::Add(one.logit, noise)});
  }
  std::sort(candidates_.begin(), candidates_.end(), ScoresHigher);
  return absl::Span<const Candidate>(candidates_);
}

absl::StatusOr<EarlyExitRow> Sampler::Foresee(const SamplingState& state, absl::Span<float> row,
                                              std::optional<TokenId> drafted, int32_t top_k,
                                              int32_t noise_top) {
  CHECK_EQ(row.size(), static_cast<size_t>(vocabulary_size_));
  CHECK(!drafted.has_value() || (*drafted >= 0 && *drafted < vocabulary_size_));
  ApplyBiasAndPenalties(state, row);
  const bool greedy = state.is_greedy();
  if (!greedy) DivideRow(row, state.parameters().temperature);
  const RowPeak peak = FindPeak(row);
  if (!IsUsable(peak)) return NanLogits(state, peak);
  const float lowest = std::numeric_limits<float>::lowest();
  const NoiseKey key = state.noise_key();
  const auto score = [&](float logit, TokenId token) {
    return greedy ? logit : ieee::Add(logit, GumbelNoise(key, token));
  };
  const bool filtered = !greedy && RowFilter::IsActive(state.parameters());
  // All that a filter keeps: the drafted token may be far down, and is masked only if it is not among them.
  const absl::Span<const RankedToken> kept =
      filtered ? filter_.Keep(state.parameters(), row, peak.value)
               : filter_.Largest(row, greedy ? top_k + 1 : std::max(noise_top, top_k + 1), lowest);
  EarlyExitRow result;
  if (drafted.has_value()) {
    const float logit = row[*drafted];
    const bool kept_it = !filtered || std::any_of(kept.begin(), kept.end(), [&](const auto& one) {
      return one.token == *drafted;
    });
    result.drafted_score = kept_it && logit >= lowest ? score(logit, *drafted) : lowest;
  }
  candidates_.clear();
  for (const RankedToken& one : kept.subspan(0, std::max(noise_top, top_k + 1))) {
    if (one.token != drafted) candidates_.push_back({one.token, score(one.logit, one.token)});
  }
  const size_t count = std::min(candidates_.size(), static_cast<size_t>(std::max(top_k, 0)));
  std::partial_sort(candidates_.begin(), candidates_.begin() + count, candidates_.end(), ScoresHigher);
  result.candidates.assign(candidates_.begin(), candidates_.begin() + count);
  return result;
}

}  // namespace mirrorsd::engine
