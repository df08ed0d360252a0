// Purpose: the own exp, log, pow, sin and cos stay within the stated distance of the true value (libm in a
// wider type), over the whole range, and their bits never move (recorded vectors).

#include "common/ieee_math.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gtest/gtest.h"

namespace mirrorsd {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

uint32_t BitsOf(float x) { return ieee::Bits<uint32_t>(x); }

// Distance in units of the last place of `want` as a T.
template <typename T>
double Ulps(T got, long double want) {
  const T rounded = static_cast<T>(want);
  if (rounded == got) return 0.0;
  const T next = std::nextafter(std::abs(rounded), std::numeric_limits<T>::infinity());
  const long double ulp = static_cast<long double>(next) - std::abs(rounded);
  return static_cast<double>(std::abs(static_cast<long double>(got) - want) / ulp);
}

// Visits floats of every exponent between low and high by their bits.
template <typename Visit>
void ForFloats(float low, float high, uint32_t step, const Visit& visit) {
  for (uint32_t bits = BitsOf(low); bits <= BitsOf(high); bits += step) {
    visit(ieee::Bits<float>(bits));
  }
}

TEST(IeeeMath, ExpFIsWithinTwoUlps) {
  double worst = 0;
  const auto check = [&](float x) {
    worst = std::max(worst, Ulps(ExpF(x), std::exp(static_cast<long double>(x))));
    worst = std::max(worst, Ulps(ExpF(-x), std::exp(-static_cast<long double>(x))));
  };
  ForFloats(1e-8f, 88.7f, 1999, check);
  EXPECT_LE(worst, 2.0);
  EXPECT_GT(worst, 0.0);
  EXPECT_EQ(ExpF(0.0f), 1.0f);
  EXPECT_EQ(ExpF(-0.0f), 1.0f);
  EXPECT_EQ(ExpF(89.0f), kInfinity);
  EXPECT_EQ(ExpF(kInfinity), kInfinity);
  EXPECT_EQ(ExpF(-kInfinity), 0.0f);
  EXPECT_GT(ExpF(-103.0f), 0.0f);  // subnormal
  EXPECT_TRUE(std::isnan(ExpF(std::nanf(""))));
}

TEST(IeeeMath, LogFIsWithinOneUlp) {
  double worst = 0;
  const auto check = [&](float x) {
    worst = std::max(worst, Ulps(LogF(x), std::log(static_cast<long double>(x))));
  };
  ForFloats(std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(), 9973, check);
  ForFloats(0.9f, 1.1f, 17, check);
  EXPECT_LE(worst, 1.0);
  EXPECT_EQ(LogF(1.0f), 0.0f);
  EXPECT_EQ(LogF(0.0f), -kInfinity);
  EXPECT_EQ(LogF(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(LogF(-1.0f)));
  EXPECT_TRUE(std::isnan(LogF(std::nanf(""))));
}

TEST(IeeeMath, DoubleExpAndLogAreWithinTwoUlps) {
  double worst_exp = 0;
  double worst_log = 0;
  for (int i = 0; i < 400000; ++i) {
    const double x = -700.0 + i * (1400.0 / 400000);
    worst_exp = std::max(worst_exp, Ulps(Exp(x), std::exp(static_cast<long double>(x))));
    const double y = std::exp(x);
    worst_log = std::max(worst_log, Ulps(Log(y), std::log(static_cast<long double>(y))));
    const double near_one = 1.0 + x * 1e-4;
    worst_log = std::max(worst_log, Ulps(Log(near_one), std::log(static_cast<long double>(near_one))));
  }
  EXPECT_LE(worst_exp, 1.0);
  EXPECT_LE(worst_log, 1.0);
  EXPECT_EQ(Exp(-1000.0), 0.0);
  EXPECT_EQ(Exp(1000.0), std::numeric_limits<double>::infinity());
  EXPECT_EQ(Log(0.0), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(Log(-1.0)));
  EXPECT_NEAR(Log(std::numeric_limits<double>::denorm_min()), -744.4400719213812, 1e-10);
}

TEST(IeeeMath, PowIsCorrectAsFloat) {
  for (const double base : {10000.0, 500000.0, 1000000.0}) {
    for (int i = 0; i < 128; ++i) {
      const double want = std::pow(base, -i / 128.0);
      EXPECT_NEAR(Pow(base, -i / 128.0) / want, 1.0, 1e-14);
    }
  }
}

TEST(IeeeMath, SinCosFIsWithinOneUlp) {
  double worst = 0;
  const auto check = [&](float x) {
    for (const float signed_x : {x, -x}) {
      const SinCos got = SinCosF(signed_x);
      worst = std::max(worst, Ulps(got.sin, std::sin(static_cast<long double>(signed_x))));
      worst = std::max(worst, Ulps(got.cos, std::cos(static_cast<long double>(signed_x))));
    }
  };
  ForFloats(1e-6f, 4194304.0f, 997, check);
  for (int position = 0; position < 131072; position += 7) check(static_cast<float>(position));
  EXPECT_LE(worst, 1.0);
  EXPECT_TRUE(std::isnan(SinCosF(kInfinity).cos));
  EXPECT_TRUE(std::isnan(SinCosF(std::nanf("")).sin));
}

// A change of any bit changes tokens of running deployments: it needs a new kernel revision.
TEST(IeeeMath, BitsAreRecorded) {
  uint32_t hash = 2166136261u;
  const auto add = [&hash](float x) { hash = (hash ^ BitsOf(x)) * 16777619u; };
  for (int i = -2000; i <= 2000; ++i) {
    const float x = static_cast<float>(i) * 0.03125f;
    add(ExpF(x));
    add(LogF(x * x + 0.001f));
    add(SinCosF(x * 17.0f).sin);
    add(SinCosF(x * 17.0f).cos);
    add(static_cast<float>(Pow(1.5, x)));
  }
  EXPECT_EQ(hash, 1495943973u);
}

}  // namespace
}  // namespace mirrorsd
