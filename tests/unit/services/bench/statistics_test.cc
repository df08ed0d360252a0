#include "services/bench/statistics.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"

namespace mirrorsd::bench {
namespace {

TEST(Statistics, QuantilesAreLinearBetweenOrderStatistics) {
  EXPECT_EQ(Quantile({3}, 0.7), 3);
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(Quantile({10, 20, 30, 40, 50}, 0), 10);
  EXPECT_EQ(Quantile({10, 20, 30, 40, 50}, 1), 50);
  EXPECT_DOUBLE_EQ(Quantile({50, 40, 30, 20, 10}, 0.9), 46);
  EXPECT_EQ(Mean({1, 2, 6}), 3);
}

TEST(Statistics, OneMeasurementHasNoWidthAndNoneCountsNothing) {
  EXPECT_EQ(MedianEstimate({7}), (Estimate{7, 7, 7, 1}));
  EXPECT_EQ(MedianEstimate({}).count, 0);
}

TEST(Statistics, SameMeasurementsGiveTheSameInterval) {
  const std::vector<double> values = {1, 5, 2, 8, 3, 9, 4};
  EXPECT_EQ(MedianEstimate(values), MedianEstimate(values));
  const Estimate estimate = MedianEstimate(values);
  EXPECT_EQ(estimate.value, 4);
  EXPECT_LT(estimate.low, 4);
  EXPECT_GT(estimate.high, 4);
}

// The interval of few values is that of all of them: P(all on one side of the median) is 2 / 2^n.
TEST(Statistics, FewMeasurementsGiveTheWholeRange) {
  const Estimate estimate = MedianEstimate({1, 2, 3, 4});
  EXPECT_EQ(estimate.low, 1);
  EXPECT_EQ(estimate.high, 4);
}

// Of 400 samples of 9 normal values about 95 % of the intervals hold the true median; 92 % would be seen by chance
// less than once in 150 such tests, and the seed is fixed.
TEST(Statistics, IntervalsCoverWhatTheyClaim) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(10, 2);
  int covered = 0;
  constexpr int kSamples = 400;
  for (int i = 0; i < kSamples; ++i) {
    std::vector<double> values(9);
    for (double& value : values) value = normal(random);
    const Estimate estimate = MedianEstimate(values, {.num_resamples = 400});
    covered += estimate.low <= 10 && 10 <= estimate.high;
  }
  EXPECT_GE(covered, kSamples * 92 / 100);
}

// For many values the median's standard error is sqrt(pi / 2) sigma / sqrt(n).
TEST(Statistics, WidthFollowsTheLawOfTheMedian) {
  std::mt19937_64 random(6);
  std::normal_distribution<double> normal(0, 1);
  std::vector<double> values(2000);
  for (double& value : values) value = normal(random);
  const Estimate estimate = MedianEstimate(values, {.num_resamples = 1000});
  const double expected = 1.96 * std::sqrt(std::acos(-1.0) / 2) / std::sqrt(2000.0);
  EXPECT_NEAR((estimate.high - estimate.low) / 2, expected, 0.25 * expected);
}

TEST(Statistics, PairsCancelWhatDisturbsBoth) {
  // The machine is up to ten times slower at times; one side takes half of the other's time always.
  const std::vector<double> slow = {2, 20, 4, 2, 6};
  const std::vector<double> fast = {1, 10, 2, 1, 3};
  EXPECT_EQ(PairedRatio(slow, fast), (Estimate{2, 2, 2, 5}));
}

TEST(Statistics, AgreementIsJudgedByTheFacingHalves) {
  const Estimate a{10, 9, 10.5, 7};
  EXPECT_TRUE(Agree(a, a));
  EXPECT_TRUE(Agree(a, {10.6, 10.1, 12, 7}));   // 0.6 apart; 0.5 and 0.5 face each other
  EXPECT_FALSE(Agree(a, {10.8, 10.3, 12, 7}));  // 0.8 apart
  EXPECT_FALSE(Agree({10.8, 10.3, 12, 7}, a));
  EXPECT_TRUE(Agree(a, {9.2, 8, 10, 7}));  // below: 0.8 apart; 1 and 0.8 face each other
}

}  // namespace
}  // namespace mirrorsd::bench
