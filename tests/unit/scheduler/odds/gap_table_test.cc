#include "scheduler/odds/gap_table.h"

#include <algorithm>
#include <array>
#include <random>

#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

TEST(GapTable, BucketsCoverTheLineInOrder) {
  int last = -1;
  for (double margin = -100; margin <= 100; margin += 0.01) {
    const int bucket = GapTable::BucketOf(margin);
    EXPECT_GE(bucket, last);
    EXPECT_LT(bucket, GapTable::kNumBuckets);
    last = bucket;
  }
  EXPECT_EQ(GapTable::BucketOf(-1e300), 0);
  EXPECT_EQ(last, GapTable::kNumBuckets - 1);
}

TEST(GapTable, BeforeAnythingIsKnownALargerMarginIsMoreLikely) {
  const GapTable table;
  EXPECT_LT(table.Probability(false, -4), table.Probability(false, -0.1));
  EXPECT_DOUBLE_EQ(table.Probability(false, 0), 0.5);
  EXPECT_LT(table.Probability(false, 0.1), table.Probability(false, 6));
}

TEST(GapTable, OddsOfARowAreNoMoreThanOne) {
  GapTable table;
  for (int i = 0; i < 500; ++i) table.Learn(false, -0.3, true);
  const EarlyExitRow row{0.0f, {{5, 0.2f}, {6, 0.1f}, {7, -0.1f}}};
  const RowOdds odds = table.Odds(row);
  EXPECT_LE(odds.drafted + odds.candidates[0] + odds.candidates[1] + odds.candidates[2], 1 + 1e-12);
  EXPECT_EQ(odds.candidates[3], 0);
  EXPECT_EQ(table.Odds({std::nullopt, {{5, 1.0f}}}).drafted, 0);
}

// Scores of an exit that sees the target's through noise of its own: the learned odds must be the frequencies,
// which softmax of the scores would not be.
TEST(GapTable, LearnedOddsAreTheFrequencies) {
  std::mt19937 random(7);
  std::normal_distribution<double> gauss;
  GapTable table;
  const auto draw = [&](EarlyExitRow* row) {
    std::array<double, 3> truth{};
    std::array<double, 3> seen{};
    for (int i = 0; i < 3; ++i) {
      truth[i] = 3 * gauss(random);
      seen[i] = truth[i] + 1.5 * gauss(random);
    }
    row->drafted_score = static_cast<float>(seen[0]);
    row->candidates = {{1, static_cast<float>(seen[1])}, {2, static_cast<float>(seen[2])}};
    return static_cast<TokenId>(std::max_element(truth.begin(), truth.end()) - truth.begin());
  };
  EarlyExitRow row;
  for (int i = 0; i < 20000; ++i) {
    const TokenId truth = draw(&row);
    table.LearnRow(row, 0, truth);
  }
  // Of all rows whose best candidate was given odds in a band, that share came true.
  std::array<double, 10> said{};
  std::array<double, 10> true_ones{};
  std::array<int, 10> num{};
  for (int i = 0; i < 20000; ++i) {
    const TokenId truth = draw(&row);
    const double odds = table.Odds(row).candidates[0];
    const int band = std::min(9, static_cast<int>(odds * 10));
    said[band] += odds;
    true_ones[band] += truth == 1;
    ++num[band];
  }
  int checked = 0;
  for (int band = 0; band < 10; ++band) {
    if (num[band] < 400) continue;
    EXPECT_NEAR(said[band] / num[band], true_ones[band] / num[band], 0.05) << band;
    ++checked;
  }
  EXPECT_GE(checked, 5);
}

TEST(GapTable, OldTrialsFade) {
  GapTable table;
  for (int i = 0; i < 20000; ++i) table.Learn(true, 1.2, false);
  EXPECT_LT(table.Probability(true, 1.2), 0.01);
  EXPECT_LT(table.bucket(true, GapTable::BucketOf(1.2)).trials, 4096);
  for (int i = 0; i < 20000; ++i) table.Learn(true, 1.2, true);
  EXPECT_GT(table.Probability(true, 1.2), 0.9);
  EXPECT_NEAR(table.Probability(false, 1.2), 0.5 + 0.5 * 1.2 / 2.2, 1e-12);
}

}  // namespace
}  // namespace mirrorsd::scheduler
