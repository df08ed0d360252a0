#include "workers/measure/row_match.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "workers/engine/sampling/logits_processor.h"
#include "workers/engine/sampling/row_ops.h"

namespace mirrorsd::measure {

RowDistance CompareRows(absl::Span<const float> target, absl::Span<const float> draft,
                        float temperature) {
  CHECK_LE(draft.size(), target.size());
  CHECK(temperature > 0);
  const auto scaled = [temperature](absl::Span<const float> row) {
    std::vector<float> copy(row.begin(), row.end());
    engine::DivideRow(absl::MakeSpan(copy), temperature);
    return copy;
  };
  const std::vector<float> p = scaled(target), q = scaled(draft);
  const float p_peak = engine::FindPeak(p).value, q_peak = engine::FindPeak(q).value;
  const double p_sum = engine::SumSoftmaxWeights(p, p_peak);
  const double q_sum = engine::SumSoftmaxWeights(q, q_peak);
  RowDistance distance;
  double common = 0.0;
  for (size_t x = 0; x < q.size(); ++x) {
    const double of_target = engine::SoftmaxWeight(p[x], p_peak) / p_sum;
    const double of_draft = engine::SoftmaxWeight(q[x], q_peak) / q_sum;
    common += std::min(of_target, of_draft);
    distance.match_of_independent += of_target * of_draft;
  }
  // The sums round, and no distance is below 0.
  distance.total_variation = std::clamp(1.0 - common, 0.0, 1.0);
  return distance;
}

std::vector<TokenId> BestTokens(absl::Span<const float> row, int32_t count) {
  engine::RowFilter filter;
  std::vector<TokenId> best;
  for (const engine::RankedToken& token : filter.Largest(row, count, -INFINITY)) {
    best.push_back(token.token);
  }
  return best;
}

bool IsAmongBest(absl::Span<const TokenId> best, int32_t top_k, TokenId token, TokenId except) {
  int32_t looked_at = 0;
  for (const TokenId candidate : best) {
    if (candidate == except) continue;
    if (looked_at++ == top_k) return false;
    if (candidate == token) return true;
  }
  return false;
}

}  // namespace mirrorsd::measure
