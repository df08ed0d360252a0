// The counter noise: known answers of the generator, own vectors of G, and the law it should follow.

#include "common/noise.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd {
namespace {

std::vector<uint32_t> Words(const PhiloxBlock& block) {
  return {block.word[0], block.word[1], block.word[2], block.word[3]};
}

// Random123's kat_vectors, philox4x32 of 10 rounds.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Words(Philox4x32({{0, 0, 0, 0}}, 0, 0)),
            (std::vector<uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(Words(Philox4x32({{ones, ones, ones, ones}}, ones, ones)),
            (std::vector<uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Words(Philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822,
                             0x299f31d0)),
            (std::vector<uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(NoiseTest, CounterAndKeyAreAsDocumented) {
  const NoiseKey key{.seed = 0x0123456789abcdef, .sample_index = 3, .position = 17};
  const PhiloxBlock expected =
      Philox4x32({{25, 17, 3, kTokenNoiseStream}}, 0x89abcdef, 0x01234567);
  EXPECT_EQ(Words(NoiseWords(key, 25)), Words(expected));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(GumbelNoise(key, 100 + i), GumbelFromUniform(UniformFromBits(expected.word[i])));
  }
}

TEST(NoiseTest, UniformStaysInsideTheOpenInterval) {
  EXPECT_EQ(UniformFromBits(0), 0x1p-32f);
  EXPECT_EQ(UniformFromBits(0xffffffff), 1.0f - 0x1p-24f);
  EXPECT_EQ(UniformFromBits(0xffffff00), 1.0f - 0x1p-24f);
  float last = 0.0f;
  for (uint64_t bits = 0; bits <= 0xffffffff; bits += 65521) {
    const float w = UniformFromBits(static_cast<uint32_t>(bits));
    ASSERT_GT(w, 0.0f);
    ASSERT_LT(w, 1.0f);
    ASSERT_GE(w, last);
    last = w;
  }
}

// Against double precision: the error is a few units in the last place of the larger of G and 1.
TEST(NoiseTest, GumbelIsAccurate) {
  double worst = 0;
  for (uint64_t bits = 0; bits <= 0xffffffff; bits += 4099) {
    const float w = UniformFromBits(static_cast<uint32_t>(bits));
    const double exact = -std::log(-std::log1p(-static_cast<double>(w)));
    const double error = std::abs(GumbelFromUniform(w) - exact) / std::max(1.0, std::abs(exact));
    worst = std::max(worst, error);
  }
  EXPECT_LT(worst, 4 * 0x1p-24);
  EXPECT_NEAR(GumbelFromUniform(0x1p-32f), 32 * std::log(2.0), 1e-5);
  EXPECT_NEAR(GumbelFromUniform(1.0f - 0x1p-24f), -std::log(24 * std::log(2.0)), 1e-6);
}

// These bits are part of the promise: the same request and seed give the same tokens in every build.
TEST(NoiseTest, OwnVectors) {
  struct Vector {
    NoiseKey key;
    TokenId token;
    float gumbel;
  };
  const Vector vectors[] = {
      {{0x0u, 0x0u, 0x0u}, 0, 0x1.5984aep-1f},
      {{0x0u, 0x0u, 0x0u}, 1, -0x1.81d636p-1f},
      {{0x0u, 0x0u, 0x0u}, 3, 0x1.28da34p-4f},
      {{0x0u, 0x0u, 0x0u}, 4, -0x1.46cb14p+0f},
      {{0x1u, 0x0u, 0x0u}, 0, -0x1.95ed62p-1f},
      {{0x0u, 0x1u, 0x0u}, 0, 0x1.466026p-2f},
      {{0x0u, 0x0u, 0x1u}, 0, 0x1.3b7e44p-1f},
      {{0x2au, 0x2u, 0x3e8u}, 31999, 0x1.08dad8p+1f},
      {{0x1fffffffffffffu, 0x0u, 0x7u}, 128255, 0x1.6d90dp+1f},
      {{0xffffffffffffffffu, 0xffffffffu, 0xffffffffu}, 2147483647, 0x1.1dca4ep+0f},
  };
  for (const Vector& v : vectors) {
    EXPECT_EQ(GumbelNoise(v.key, v.token), v.gumbel)
        << v.key.seed << " " << v.key.sample_index << " " << v.key.position << " " << v.token;
  }
}

// Kolmogorov-Smirnov against the Gumbel law, along each of the four arguments. The critical value is
// for alpha = 1e-6; seeds are fixed, so the test cannot flicker.
TEST(NoiseTest, FollowsTheGumbelLaw) {
  constexpr int kDraws = 20000;
  const double critical = std::sqrt(-0.5 * std::log(1e-6 / 2)) / std::sqrt(double{kDraws});
  for (const std::string axis : {"token", "position", "sample_index", "seed"}) {
    std::vector<double> draws;
    for (uint32_t i = 0; i < kDraws; ++i) {
      NoiseKey key{.seed = 42, .sample_index = 0, .position = 5};
      TokenId token = 77;
      if (axis == "token") token = static_cast<TokenId>(i);
      if (axis == "position") key.position = i;
      if (axis == "sample_index") key.sample_index = i;
      if (axis == "seed") key.seed = i;
      draws.push_back(GumbelNoise(key, token));
    }
    std::sort(draws.begin(), draws.end());
    double distance = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double law = std::exp(-std::exp(-draws[i]));
      distance = std::max({distance, law - double(i) / kDraws, double(i + 1) / kDraws - law});
    }
    EXPECT_LT(distance, critical) << "along " << axis;
  }
}

// The largest of many is where sampling from a large vocabulary happens: its law is a shifted Gumbel.
TEST(NoiseTest, MaximumOfAVocabularyFollowsItsLaw) {
  constexpr int kRows = 2000;
  constexpr int kTokens = 4096;
  std::vector<double> maxima;
  for (uint32_t row = 0; row < kRows; ++row) {
    float best = -100.0f;
    for (TokenId t = 0; t < kTokens; ++t) {
      best = std::max(best, GumbelNoise({.seed = 7, .position = row}, t));
    }
    maxima.push_back(best - std::log(double{kTokens}));
  }
  std::sort(maxima.begin(), maxima.end());
  double distance = 0;
  for (int i = 0; i < kRows; ++i) {
    const double law = std::exp(-std::exp(-maxima[i]));
    distance = std::max({distance, law - double(i) / kRows, double(i + 1) / kRows - law});
  }
  EXPECT_LT(distance, std::sqrt(-0.5 * std::log(1e-6 / 2)) / std::sqrt(double{kRows}));
}

TEST(NoiseTest, RowsOfDifferentKeysAreDifferent) {
  std::set<float> seen;
  for (uint32_t seed = 0; seed < 4; ++seed) {
    for (uint32_t sample = 0; sample < 4; ++sample) {
      for (uint32_t position = 0; position < 4; ++position) {
        seen.insert(GumbelNoise({seed, sample, position}, 0));
      }
    }
  }
  EXPECT_EQ(seen.size(), 64u);
}

}  // namespace
}  // namespace mirrorsd
