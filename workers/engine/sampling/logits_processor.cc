#include "workers/engine/sampling/logits_processor.h"

#include <algorithm>
#include <limits>

#include "common/ieee_math.h"
#include "workers/engine/sampling/row_ops.h"

namespace mirrorsd::engine {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool IsInside(TokenId token, absl::Span<const float> row) {
  return token >= 0 && static_cast<size_t>(token) < row.size();
}

bool Precedes(const RankedToken& a, const RankedToken& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

float Penalized(float logit, const SamplingParameters& parameters,
                const SamplingState::Occurrences& seen) {
  if (parameters.repetition_penalty != 1.0f) {
    logit = logit > 0.0f ? ieee::Div(logit, parameters.repetition_penalty)
                         : ieee::Mul(logit, parameters.repetition_penalty);
  }
  if (seen.in_output > 0) {
    logit = ieee::Sub(logit, ieee::Mul(static_cast<float>(seen.in_output),
                                       parameters.frequency_penalty));
    logit = ieee::Sub(logit, parameters.presence_penalty);
  }
  return logit;
}

}  // namespace

void ApplyBiasAndPenalties(const SamplingState& state, absl::Span<float> row) {
  const SamplingParameters& parameters = state.parameters();
  for (const auto& [token, bias] : parameters.logit_bias) {
    if (IsInside(token, row)) row[token] = ieee::Add(row[token], bias);
  }
  if (state.has_penalties()) {
    for (const auto& [token, seen] : state.occurrences()) {
      if (IsInside(token, row)) row[token] = Penalized(row[token], parameters, seen);
    }
  }
  if (state.output_position() < parameters.min_tokens) {
    for (const TokenId token : state.end_token_ids()) {
      // NaN stays NaN: a broken row is to be told, not to be repaired.
      if (IsInside(token, row) && row[token] == row[token]) row[token] = kNever;
    }
  }
}

absl::Span<const RankedToken> RowFilter::Largest(absl::Span<const float> row, int32_t count,
                                                 float floor) {
  // A buffer of some times `count`; when it is full, all but the best `count` go and the floor rises.
  const size_t wanted = static_cast<size_t>(std::max(count, 1));
  const size_t room = std::max<size_t>(2 * wanted, 256);
  kept_.clear();
  float at_least = std::max(floor, std::numeric_limits<float>::lowest());
  for (size_t x = FindAtLeast(row, 0, at_least); x < row.size();
       x = FindAtLeast(row, x + 1, at_least)) {
    kept_.push_back({static_cast<TokenId>(x), row[x]});
    if (kept_.size() < room || room >= row.size()) continue;
    std::nth_element(kept_.begin(), kept_.begin() + (wanted - 1), kept_.end(), Precedes);
    kept_.resize(wanted);
    at_least = kept_.back().logit;
  }
  const size_t size = std::min(wanted, kept_.size());
  std::partial_sort(kept_.begin(), kept_.begin() + size, kept_.end(), Precedes);
  kept_.resize(size);
  return kept_;
}

bool RowFilter::CutNucleus(float top_p, float peak, double total) {
  const double enough = static_cast<double>(top_p) * total;
  double before = 0.0;
  for (size_t i = 0; i < kept_.size(); ++i) {
    if (i > 0 && before >= enough) {
      kept_.resize(i);
      return true;
    }
    before += static_cast<double>(SoftmaxWeight(kept_[i].logit, peak));
  }
  return before >= enough;
}

void RowFilter::KeepTopK(int32_t top_k, absl::Span<const float> row, float floor) {
  Largest(row, top_k, floor);
  if (kept_.size() < static_cast<size_t>(top_k)) return;
  // Those beyond the k-th that equal it.
  const RankedToken last = kept_.back();
  for (size_t x = static_cast<size_t>(last.token) + 1; x < row.size(); ++x) {
    if (row[x] == last.logit) kept_.push_back({static_cast<TokenId>(x), row[x]});
  }
}

absl::Span<const RankedToken> RowFilter::Keep(const SamplingParameters& parameters,
                                              absl::Span<const float> row, float peak,
                                              int32_t limit) {
  const int32_t size = static_cast<int32_t>(row.size());
  const int32_t most = limit > 0 ? std::min(limit, size) : size;
  float floor = kNever;
  if (parameters.min_p > 0.0f) {
    const double log_min_p = Log(static_cast<double>(parameters.min_p));
    // Rounding must not lose the largest itself.
    floor = std::min(peak, static_cast<float>(ieee::Add(static_cast<double>(peak), log_min_p)));
  }
  const bool has_top_k = parameters.top_k > 0 && parameters.top_k < size;
  const bool has_top_p = parameters.top_p < 1.0f;
  if (has_top_k) {
    KeepTopK(parameters.top_k, row, floor);
    if (has_top_p) {
      double total = 0.0;
      for (const RankedToken& kept : kept_) total += SoftmaxWeight(kept.logit, peak);
      CutNucleus(parameters.top_p, peak, total);
    }
  } else if (has_top_p) {
    // The nucleus is mostly small: look for it among the largest few, then among more.
    double total = 0.0;
    if (parameters.min_p > 0.0f) {
      Largest(row, size, floor);
      for (const RankedToken& kept : kept_) total += SoftmaxWeight(kept.logit, peak);
      CutNucleus(parameters.top_p, peak, total);
    } else {
      total = SumSoftmaxWeights(row, peak);
      for (int64_t count = 64;; count *= 8) {
        const int32_t bounded = static_cast<int32_t>(std::min<int64_t>(count, most));
        Largest(row, bounded, floor);
        if (CutNucleus(parameters.top_p, peak, total) || bounded == most) break;
      }
    }
  } else {
    Largest(row, most, floor);
  }
  if (kept_.size() > static_cast<size_t>(most)) kept_.resize(most);
  return kept_;
}

}  // namespace mirrorsd::engine
