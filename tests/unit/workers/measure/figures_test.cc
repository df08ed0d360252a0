#include "workers/measure/figures.h"

#include <cmath>

#include "gtest/gtest.h"

namespace mirrorsd::measure {
namespace {

TEST(ShareTest, IsTheMeanOfAllRows) {
  Share share;
  share.AddGroup(3, 4);
  share.AddGroup(1, 6);
  EXPECT_EQ(share.count(), 10);
  EXPECT_DOUBLE_EQ(share.value(), 0.4);
  // Residuals 3 - 0.4 * 4 = 1.4 and 1 - 0.4 * 6 = -1.4; n / (n - 1) = 2.
  EXPECT_NEAR(share.half_width(), 1.96 * std::sqrt(2 * (1.4 * 1.4 * 2)) / 10, 1e-12);
}

TEST(ShareTest, KnowsNothingOfOneGroup) {
  Share share;
  EXPECT_DOUBLE_EQ(share.value(), 0.0);
  share.AddGroup(5, 10);
  share.AddGroup(0, 0);
  EXPECT_DOUBLE_EQ(share.half_width(), 1.0);
  Share other;
  other.AddGroup(5, 10);
  share.Add(other);
  EXPECT_EQ(share.count(), 20);
  EXPECT_NEAR(share.half_width(), 0.0, 1e-12);
}

TEST(CountRoundsTest, FollowsSerialSpeculation) {
  //                                  first | round 1: 1 1 0 | round 2: 0 | round 3: 1 (capped), last
  const std::vector<uint8_t> matches = {0, 1, 1, 0, 0, 1, 1};
  const RoundCount count = CountRounds(matches, 4);
  EXPECT_EQ(count.rounds, 3);
  EXPECT_EQ(count.accepted, 2 + 0 + 1);
  EXPECT_EQ(count.drafted, 4 + 2 + 1);
  EXPECT_DOUBLE_EQ(count.mean_acceptance_length(), 2.0);
  EXPECT_EQ(CountRounds({}, 4).rounds, 0);
  EXPECT_EQ(CountRounds(absl::MakeConstSpan(matches).subspan(0, 1), 4).rounds, 0);
  // A window of none: a round for each token but the first.
  EXPECT_EQ(CountRounds(matches, 0).rounds, 6);
}

TEST(MeasureVarietyTest, TellsAStreamThatGoesInCircles) {
  std::vector<TokenId> circle, line;
  for (int i = 0; i < 64; ++i) {
    circle.push_back(i % 3);
    line.push_back(i);
  }
  const StreamVariety of_circle = MeasureVariety({circle});
  EXPECT_EQ(of_circle.num_distinct_tokens, 3);
  EXPECT_EQ(of_circle.num_runs, 57);
  EXPECT_EQ(of_circle.num_distinct_runs, 3);
  EXPECT_DOUBLE_EQ(MeasureVariety({line}).share_of_distinct_runs(), 1.0);
  EXPECT_DOUBLE_EQ(MeasureVariety({line, line}).share_of_distinct_runs(), 0.5);
}

}  // namespace
}  // namespace mirrorsd::measure
