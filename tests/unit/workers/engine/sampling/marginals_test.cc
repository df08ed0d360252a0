// Sampling is what it says: over a fixed list of seeds, the frequencies of the first three tokens follow
// the exact marginals of a small random Markov model of vocabulary 32, found by enumeration, with each
// filter and penalty on. Bins that expect fewer than five are pooled; alpha is 1e-6.

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/exact_law.h"
#include "tests/support/reference_sampler.h"
#include "workers/engine/sampling/sampler.h"

namespace mirrorsd::engine {
namespace {

namespace testing = ::mirrorsd::testing;
using ::mirrorsd::testing::ReferenceProbabilities;
using ::mirrorsd::testing::ReferenceProcess;

constexpr int kVocabulary = 32;
constexpr int kSeeds = 20000;
const std::vector<TokenId> kPrompt = {3, 7, 7, 19};
const std::vector<TokenId> kEndTokens = {0, 1};

// The model: logits depend on the last token.
const std::vector<float>& Logits(TokenId last) {
  static const std::vector<std::vector<float>> table = [] {
    std::vector<std::vector<float>> rows(kVocabulary, std::vector<float>(kVocabulary));
    for (TokenId from = 0; from < kVocabulary; ++from) {
      const NoiseKey key{.seed = 1234, .position = static_cast<uint32_t>(from)};
      for (TokenId x = 0; x < kVocabulary; ++x) rows[from][x] = 1.2f * GumbelNoise(key, x);
    }
    return rows;
  }();
  return table[last];
}

std::vector<double> Next(const SamplingParameters& parameters, const std::vector<TokenId>& output) {
  const std::vector<float>& logits = Logits(output.empty() ? kPrompt.back() : output.back());
  return ReferenceProbabilities(ReferenceProcess({logits.begin(), logits.end()}, parameters,
                                                 kEndTokens, kPrompt, output),
                                false);
}

// [position][token]: probability of the token at that output position.
std::vector<std::vector<double>> Marginals(const SamplingParameters& parameters) {
  std::vector<std::vector<double>> marginals(3, std::vector<double>(kVocabulary, 0.0));
  const std::vector<double> first = Next(parameters, {});
  for (TokenId a = 0; a < kVocabulary; ++a) {
    marginals[0][a] += first[a];
    if (first[a] == 0) continue;
    const std::vector<double> second = Next(parameters, {a});
    for (TokenId b = 0; b < kVocabulary; ++b) {
      const double both = first[a] * second[b];
      marginals[1][b] += both;
      if (both == 0) continue;
      const std::vector<double> third = Next(parameters, {a, b});
      for (TokenId c = 0; c < kVocabulary; ++c) marginals[2][c] += both * third[c];
    }
  }
  return marginals;
}

class MarginalsTest : public ::testing::TestWithParam<std::string> {};

SamplingParameters ParametersOf(const std::string& name) {
  SamplingParameters p;
  if (name == "temperature") p.temperature = 0.6f;
  if (name == "hot") p.temperature = 1.7f;
  if (name == "top_k") p.top_k = 6;
  if (name == "top_p") p.top_p = 0.8f;
  if (name == "min_p") p.min_p = 0.08f;
  if (name == "repetition_penalty") p.repetition_penalty = 1.8f;
  if (name == "presence_penalty") p.presence_penalty = 1.5f;
  if (name == "frequency_penalty") p.frequency_penalty = 1.5f;
  if (name == "logit_bias") p.logit_bias = {{2, 2.0f}, {9, -100.0f}, {20, 1.0f}};
  if (name == "min_tokens") p.min_tokens = 2;
  if (name == "everything") {
    p = {.temperature = 0.9f, .top_k = 12, .top_p = 0.95f, .min_p = 0.01f,
         .repetition_penalty = 1.2f, .presence_penalty = 0.5f, .frequency_penalty = 0.25f,
         .min_tokens = 1, .logit_bias = {{5, 1.0f}}};
  }
  return p;
}

TEST_P(MarginalsTest, FrequenciesFollowTheExactLaw) {
  SamplingParameters parameters = ParametersOf(GetParam());
  const std::vector<std::vector<double>> marginals = Marginals(parameters);
  std::vector<std::vector<int>> counts(3, std::vector<int>(kVocabulary, 0));
  Sampler sampler(kVocabulary);
  for (int seed = 0; seed < kSeeds; ++seed) {
    parameters.seed = static_cast<uint64_t>(seed);
    SamplingState state(parameters, kEndTokens, static_cast<int32_t>(kPrompt.size()));
    state.Append(kPrompt);
    for (int position = 0; position < 3; ++position) {
      std::vector<float> row = Logits(state.tokens().back());
      const TokenId token = sampler.Sample(state, absl::MakeSpan(row)).value();
      ++counts[position][token];
      state.Append(token);
    }
  }
  for (int position = 0; position < 3; ++position) {
    SCOPED_TRACE(position);
    testing::ExpectFollows(counts[position], marginals[position], kSeeds);
  }
}

INSTANTIATE_TEST_SUITE_P(Filters, MarginalsTest,
                         ::testing::Values("plain", "temperature", "hot", "top_k", "top_p", "min_p",
                                           "repetition_penalty", "presence_penalty",
                                           "frequency_penalty", "logit_bias", "min_tokens",
                                           "everything"),
                         [](const auto& info) { return info.param; });

// The test can fail: the law of another temperature is told apart.
TEST(MarginalsOracleTest, TellsLawsApart) {
  SamplingParameters other;
  other.temperature = 1.1f;
  const std::vector<double> law = Marginals({})[0];
  const std::vector<double> wrong = Marginals(other)[0];
  double statistic = 0;
  for (int x = 0; x < kVocabulary; ++x) {
    statistic += kSeeds * (law[x] - wrong[x]) * (law[x] - wrong[x]) / law[x];
  }
  EXPECT_GT(statistic, testing::CriticalChiSquare(kVocabulary - 1));
}

}  // namespace
}  // namespace mirrorsd::engine
