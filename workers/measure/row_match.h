#pragma once
// What one row says about how far a draft and an early exit go with the target: pure functions over three rows of
// logits of the same position. Definitions, p being the target's and q the draft's distribution of that row:
//
//   greedy       argmax of both logits are the same token
//   coupled      argmax(logits + G) of both are the same, with one noise row G for both: what mirrorsd does
//   independent  the same with a noise row for each; its probability is sum p q
//   ratio test   accepted with probability sum min(p, q) = 1 - TV: the speculative sampling of the literature
//   bound        (1 - TV) / (1 + TV), below which coupled noise cannot fall (Daliri et al., arXiv 2408.07978)
//
// Ties go to the lowest id. Callable from any thread.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"

namespace mirrorsd::measure {

// Of the best tokens of an exit; enough for recall at 8 among tokens other than the drafted one.
inline constexpr int32_t kExitCandidates = 9;

// Both distributions of one row at one temperature, as softmax(logits / temperature).
// Shapes: target[V], draft[<= V]: what the draft does not know has no probability
struct RowDistance {
  double total_variation = 0.0;
  double match_of_independent = 0.0;  // sum p q
  double ratio_test() const { return 1.0 - total_variation; }
  double coupled_bound() const { return (1.0 - total_variation) / (1.0 + total_variation); }
};
RowDistance CompareRows(absl::Span<const float> target, absl::Span<const float> draft,
                        float temperature);

// The `count` best tokens of a row by value, equal ones by id. The largest first.
std::vector<TokenId> BestTokens(absl::Span<const float> row, int32_t count);

// Whether `token` is among the first `top_k` of `best` that are not `except` (-1: none).
bool IsAmongBest(absl::Span<const TokenId> best, int32_t top_k, TokenId token, TokenId except);

}  // namespace mirrorsd::measure
