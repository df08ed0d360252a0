#pragma once
// From score gaps at the early exit to the probability that a token is the target's own. The exit's scores are
// processed logits plus the request's noise, and so are the target's: with shared noise outcomes do not follow
// softmax(exit). So the table is learned while running: for every row whose outcome is known, each token that the exit
// scored either was the target's or was not, and that is counted by how far its score was above or below the
// best of the others. A drafted token has buckets of its own, because draft and exit agreeing says more than
// the exit alone. Not a model of either network. Not thread-safe; the same calls give the same numbers.

#include <array>
#include <optional>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/worker_messages.h"

namespace mirrorsd::scheduler {

// Probabilities of one row's outcome; they sum to at most 1.
// Shapes: candidates[k] belongs to the row's k-th candidate; the rest is 0
struct RowOdds {
  double drafted = 0;  // 0 in a row without a drafted token
  std::array<double, kMaxBranchTopK> candidates{};
};

class GapTable {
 public:
  // `margin`: score minus the best other score of the row, in units of the processed logits.
  double Probability(bool drafted, double margin) const;
  void Learn(bool drafted, double margin, bool was_the_targets);

  // Candidates beyond kMaxBranchTopK count as nothing.
  RowOdds Odds(const EarlyExitRow& row) const;
  // `drafted` is the window's token at that row (none in the last row), `truth` what the target said there.
  void LearnRow(const EarlyExitRow& row, std::optional<TokenId> drafted, TokenId truth);

  // Trials and successes of one bucket, as far as they are remembered.
  struct Bucket {
    double trials = 0;
    double wins = 0;
  };
  static constexpr int kNumBuckets = 28;
  static int BucketOf(double margin);
  const Bucket& bucket(bool drafted, int index) const { return buckets_[drafted ? 1 : 0][index]; }

 private:
  std::array<std::array<Bucket, kNumBuckets>, 2> buckets_{};
};

}  // namespace mirrorsd::scheduler
