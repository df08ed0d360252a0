#include "workers/pacing/device_profile.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::pacing {
namespace {

TEST(RowTable, GoesStraightBetweenItsPointsAndOnBeyond) {
  const RowTable table({{1, 0.010}, {9, 0.018}, {17, 0.034}});
  EXPECT_DOUBLE_EQ(table.Seconds(1), 0.010);
  EXPECT_DOUBLE_EQ(table.Seconds(5), 0.014);
  EXPECT_DOUBLE_EQ(table.Seconds(9), 0.018);
  EXPECT_DOUBLE_EQ(table.Seconds(13), 0.026);
  EXPECT_DOUBLE_EQ(table.Seconds(17), 0.034);
  EXPECT_DOUBLE_EQ(table.Seconds(25), 0.050);  // the last slope goes on
  EXPECT_DOUBLE_EQ(table.Seconds(0), 0);
}

TEST(RowTable, OnePointHoldsEverywhere) {
  const RowTable table({{4, 0.25}});
  EXPECT_DOUBLE_EQ(table.Seconds(1), 0.25);
  EXPECT_DOUBLE_EQ(table.Seconds(4), 0.25);
  EXPECT_DOUBLE_EQ(table.Seconds(400), 0.25);
  EXPECT_DOUBLE_EQ(RowTable().Seconds(4), 0);
}

TEST(DeviceProfile, APassIsTheSumOfItsParts) {
  DeviceProfile profile;
  profile.num_layers = 10;
  profile.pass_s = 1;
  profile.embedding_s = 2;
  profile.layer = RowTable({{1, 3}, {2, 4}});
  profile.kv_token_s = 0.5;
  profile.head = RowTable({{1, 5}});
  profile.exit_head = RowTable({{1, 7}});
  profile.transfer_in = {.base_s = 0.25, .row_s = 0.125};
  profile.transfer_out = {.base_s = 0.5, .row_s = 0.0625};
  EXPECT_DOUBLE_EQ(profile.BeginSeconds(2), 1 + 2 + 0.25 + 0.25);
  EXPECT_DOUBLE_EQ(profile.LayersSeconds(2, 6), 10 * (4 + 3.0));
  EXPECT_DOUBLE_EQ(profile.HeadSeconds(1, true), 5);
  EXPECT_DOUBLE_EQ(profile.HeadSeconds(1, false), 7);
  EXPECT_DOUBLE_EQ(profile.PassSeconds(2, 1, 6), 3.5 + 70 + 5 + 0.5625);
  EXPECT_DOUBLE_EQ(profile.PassSeconds(2, 0, 6), 3.5 + 70);  // an inner chunk has no head
}

TEST(Jitter, HasMedianOneItsSpreadAndABound) {
  const Jitter jitter{.sigma = 0.1, .seed = 7};
  std::vector<double> logs;
  double sum = 0, squares = 0;
  for (uint64_t pass = 0; pass < 20000; ++pass) {
    const double log = std::log(JitterFactor(jitter, pass));
    EXPECT_LT(std::abs(log), 0.1 * 3.5);
    logs.push_back(log);
    sum += log;
    squares += log * log;
  }
  std::sort(logs.begin(), logs.end());
  const double n = static_cast<double>(logs.size());
  EXPECT_NEAR(logs[logs.size() / 2], 0, 0.004);
  EXPECT_NEAR(sum / n, 0, 0.004);
  EXPECT_NEAR(std::sqrt(squares / n), 0.1, 0.004);
}

TEST(Jitter, IsTheSameAgainAndAnotherOfAnotherSeed) {
  const Jitter jitter{.sigma = 0.1, .seed = 7}, other{.sigma = 0.1, .seed = 8};
  EXPECT_EQ(JitterFactor(jitter, 3), JitterFactor(jitter, 3));
  EXPECT_NE(JitterFactor(jitter, 3), JitterFactor(jitter, 4));
  EXPECT_NE(JitterFactor(jitter, 3), JitterFactor(other, 3));
  EXPECT_EQ(JitterFactor({}, 3), 1);
}

}  // namespace
}  // namespace mirrorsd::pacing
