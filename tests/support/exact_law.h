#pragma once
// Counts against an exact law: chi-square with alpha = 1e-6, bins that expect fewer than five pooled, and
// nothing where the law says nothing can be. Seeds are fixed by the caller, so a verdict never flickers.

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::testing {

// The value that a chi-square of `degrees` exceeds with probability 1e-6 (Wilson and Hilferty).
inline double CriticalChiSquare(int degrees) {
  const double z = 4.753424;
  const double h = 2.0 / (9.0 * degrees);
  return degrees * std::pow(1 - h + z * std::sqrt(h), 3);
}

// Shapes: counts[V], law[V], summing to `num_draws` and 1
inline void ExpectFollows(const std::vector<int>& counts, const std::vector<double>& law,
                          int64_t num_draws) {
  ASSERT_EQ(counts.size(), law.size());
  double statistic = 0, rest_expected = 0;
  int64_t rest = 0;
  int bins = 0;
  for (size_t x = 0; x < law.size(); ++x) {
    const double expected = law[x] * static_cast<double>(num_draws);
    if (law[x] == 0) {
      EXPECT_EQ(counts[x], 0) << "token " << x << " cannot be";
    }
    if (expected < 5) {
      rest_expected += expected;
      rest += counts[x];
      continue;
    }
    statistic += (counts[x] - expected) * (counts[x] - expected) / expected;
    ++bins;
  }
  if (rest_expected >= 5) {
    const double difference = static_cast<double>(rest) - rest_expected;
    statistic += difference * difference / rest_expected;
    ++bins;
  }
  if (bins > 1) {
    EXPECT_LT(statistic, CriticalChiSquare(bins - 1)) << bins << " bins";
  }
}

}  // namespace mirrorsd::testing
