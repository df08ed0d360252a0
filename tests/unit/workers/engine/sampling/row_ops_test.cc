// The row loops against their definitions, at sizes around every block boundary.

#include "workers/engine/sampling/row_ops.h"

#include <cmath>
#include <limits>
#include <vector>

#include "common/ieee_math.h"
#include "gtest/gtest.h"
#include "workers/engine/sampling/noise_cache.h"

namespace mirrorsd::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> RandomRow(int size, uint32_t row) {
  std::vector<float> values;
  for (TokenId x = 0; x < size; ++x) {
    values.push_back(3.0f * GumbelNoise({.seed = 99, .position = row}, x));
  }
  return values;
}

TEST(RowOpsTest, NoiseRowHasTheBitsOfEachToken) {
  for (const int size : {1, 3, 4, 63, 64, 65, 127, 128, 1000, 5003}) {
    const NoiseKey key{.seed = 5, .sample_index = 2, .position = static_cast<uint32_t>(size)};
    std::vector<float> noise(size);
    FillGumbelRow(key, absl::MakeSpan(noise));
    for (TokenId x = 0; x < size; ++x) {
      ASSERT_EQ(ieee::Bits<uint32_t>(noise[x]), ieee::Bits<uint32_t>(GumbelNoise(key, x))) << x;
    }
  }
}

TEST(RowOpsTest, PeakIsTheFirstOfTheLargest) {
  for (const int size : {1, 2, 15, 16, 17, 31, 32, 33, 100, 1000}) {
    std::vector<float> row = RandomRow(size, 1);
    for (int at = 0; at < size; ++at) {
      std::vector<float> peaked = row;
      peaked[at] = 1000.0f;
      for (int later = at + 5; later < size; later += 7) peaked[later] = 1000.0f;
      const RowPeak peak = FindPeak(peaked);
      ASSERT_EQ(peak.token, at);
      ASSERT_EQ(peak.value, 1000.0f);
      ASSERT_FALSE(peak.has_nan);
      peaked[at] = kNan;
      ASSERT_TRUE(FindPeak(peaked).has_nan) << at << " of " << size;
      ASSERT_EQ(FindPeak(peaked).token, -1);
    }
  }
  EXPECT_EQ(FindPeak({}).token, -1);
  const std::vector<float> zeros = {-1.0f, -0.0f, 0.0f};
  EXPECT_EQ(FindPeak(zeros).token, 1);
  const std::vector<float> nothing(20, -kInfinity);
  EXPECT_EQ(FindPeak(nothing).value, -kInfinity);
}

TEST(RowOpsTest, FindAtLeastStopsAtEachOne) {
  for (const int size : {1, 15, 16, 17, 40, 257}) {
    std::vector<float> row = RandomRow(size, 2);
    row[size / 2] = kNan;
    row[size / 3] = 2.0f;
    std::vector<size_t> expected, found;
    for (int i = 0; i < size; ++i) {
      if (row[i] >= 2.0f) expected.push_back(i);
    }
    for (size_t i = FindAtLeast(row, 0, 2.0f); i < row.size(); i = FindAtLeast(row, i + 1, 2.0f)) {
      found.push_back(i);
    }
    EXPECT_EQ(found, expected) << size;
    EXPECT_EQ(FindAtLeast(row, row.size(), -kInfinity), row.size());
  }
}

TEST(RowOpsTest, WeightIsTheExponential) {
  for (float x = 0.0f; x > -80.0f; x -= 0.37f) {
    EXPECT_EQ(SoftmaxWeight(x + 5.0f, 5.0f), ExpF((x + 5.0f) - 5.0f));
  }
  EXPECT_EQ(SoftmaxWeight(-80.5f, 0.0f), 0.0f);
  EXPECT_EQ(SoftmaxWeight(-kInfinity, 0.0f), 0.0f);
}

TEST(RowOpsTest, SumOfWeightsHasTheDocumentedOrder) {
  for (const int size : {1, 15, 16, 17, 33, 1000, 4099}) {
    const std::vector<float> row = RandomRow(size, 3);
    const float peak = FindPeak(row).value;
    double lanes[16] = {};
    for (int i = 0; i < size; ++i) lanes[i % 16] += SoftmaxWeight(row[i], peak);
    double total = 0;
    for (const double lane : lanes) total += lane;
    EXPECT_EQ(SumSoftmaxWeights(row, peak), total);
    EXPECT_GE(total, 1.0);
  }
}

TEST(NoiseCacheTest, KeepsRowsAndForgetsTheOldest) {
  NoiseCache cache(40, 2);
  const auto key = [](uint32_t position) { return NoiseKey{.seed = 1, .position = position}; };
  EXPECT_EQ(cache.Row(key(0))[7], GumbelNoise(key(0), 7));
  EXPECT_EQ(cache.Row(key(1))[39], GumbelNoise(key(1), 39));
  cache.Row(key(0));
  EXPECT_EQ(cache.num_computed(), 2);
  cache.Row(key(2));  // in the place of 1
  cache.Row(key(0));
  EXPECT_EQ(cache.num_computed(), 3);
  EXPECT_EQ(cache.Row(key(1))[0], GumbelNoise(key(1), 0));
  EXPECT_EQ(cache.num_computed(), 4);
}

}  // namespace
}  // namespace mirrorsd::engine
