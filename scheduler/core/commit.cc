#include "scheduler/core/commit.h"

#include <algorithm>

#include "common/check.h"

namespace mirrorsd::scheduler {

CommitCut CutAtEnd(absl::Span<const TokenId> yield, absl::Span<const TokenId> end_token_ids,
                   int32_t remaining_tokens) {
  CHECK(!yield.empty());
  CHECK_GE(remaining_tokens, 1);
  CommitCut cut;
  for (const TokenId token : yield) {
    ++cut.num_tokens;
    if (std::find(end_token_ids.begin(), end_token_ids.end(), token) != end_token_ids.end()) {
      cut.finish = FinishReason::kStop;
      return cut;
    }
    if (cut.num_tokens == remaining_tokens) {
      cut.finish = FinishReason::kLength;
      return cut;
    }
  }
  return cut;
}

void CountRound(int32_t window_size, int32_t num_accepted, int32_t num_committed,
                bool speculation_on, SpeculationStats* stats) {
  CHECK_LE(num_accepted, window_size);
  const bool cut = num_committed <= num_accepted;
  const int32_t drafted = cut ? num_committed : window_size;
  const int32_t accepted = std::min(num_accepted, num_committed);
  ++stats->rounds;
  stats->drafted_tokens += drafted;
  stats->accepted_tokens += accepted;
  if (window_size == 0 && speculation_on) ++stats->empty_window_rounds;
  if (static_cast<int32_t>(stats->drafted_per_position.size()) < drafted) {
    stats->drafted_per_position.resize(drafted);
    stats->accepted_per_position.resize(drafted);
  }
  for (int32_t row = 0; row < drafted; ++row) ++stats->drafted_per_position[row];
  for (int32_t row = 0; row < accepted; ++row) ++stats->accepted_per_position[row];
}

}  // namespace mirrorsd::scheduler
