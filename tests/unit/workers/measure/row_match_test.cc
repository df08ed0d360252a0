#include "workers/measure/row_match.h"

#include <cmath>

#include "gtest/gtest.h"

namespace mirrorsd::measure {
namespace {

std::vector<float> Logs(const std::vector<double>& probabilities) {
  std::vector<float> logs;
  for (const double p : probabilities) logs.push_back(static_cast<float>(std::log(p)));
  return logs;
}

TEST(CompareRowsTest, MatchesTheDefinitions) {
  const RowDistance distance = CompareRows(Logs({0.5, 0.3, 0.2}), Logs({0.2, 0.3, 0.5}), 1.0f);
  EXPECT_NEAR(distance.total_variation, 0.3, 1e-6);
  EXPECT_NEAR(distance.match_of_independent, 0.1 + 0.09 + 0.1, 1e-6);
  EXPECT_NEAR(distance.ratio_test(), 0.7, 1e-6);
  EXPECT_NEAR(distance.coupled_bound(), 0.7 / 1.3, 1e-6);
}

TEST(CompareRowsTest, DividesByTheTemperature) {
  // At temperature 1/2 probabilities are squared: 0.64 and 0.04 over 0.68.
  const RowDistance distance = CompareRows(Logs({0.8, 0.2}), Logs({0.5, 0.5}), 0.5f);
  EXPECT_NEAR(distance.total_variation, 0.64 / 0.68 - 0.5, 1e-6);
}

TEST(CompareRowsTest, WhatTheDraftDoesNotKnowHasNoProbability) {
  const RowDistance distance = CompareRows(Logs({0.25, 0.25, 0.5}), Logs({0.5, 0.5}), 1.0f);
  EXPECT_NEAR(distance.total_variation, 0.5, 1e-6);
  const std::vector<float> same = Logs({0.9, 0.1});
  EXPECT_NEAR(CompareRows(same, same, 1.0f).total_variation, 0.0, 1e-9);
}

TEST(IsAmongBestTest, SkipsTheDraftedToken) {
  const std::vector<float> row = {1, 5, 3, 4, 3};
  const std::vector<TokenId> best = BestTokens(row, 9);
  EXPECT_EQ(best, (std::vector<TokenId>{1, 3, 2, 4, 0}));
  EXPECT_TRUE(IsAmongBest(best, 1, 1, -1));
  EXPECT_FALSE(IsAmongBest(best, 1, 3, -1));
  EXPECT_TRUE(IsAmongBest(best, 1, 3, 1));
  EXPECT_TRUE(IsAmongBest(best, 2, 3, 0));
  EXPECT_FALSE(IsAmongBest(best, 2, 4, 1));
  EXPECT_FALSE(IsAmongBest(best, 8, 1, 1)) << "the drafted token itself is no candidate";
}

}  // namespace
}  // namespace mirrorsd::measure
