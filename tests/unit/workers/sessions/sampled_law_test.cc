// Sampling is what it says, through the whole of both sessions: the frequencies of the first three tokens
// of a micro model of vocabulary 32, over a fixed list of seeds, against exact marginals enumerated from
// the engine's own logits; each filter and penalty on, speculation off and on.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/exact_law.h"
#include "tests/support/local_cell.h"
#include "tests/support/reference_sampler.h"
#include "tests/unit/workers/sessions/session_fixtures.h"
#include "workers/engine/kv_cache/sequence_cache.h"

namespace mirrorsd {
namespace {

constexpr int kVocabulary = 32;
constexpr int kSeeds = 3000;
const std::vector<TokenId> kPrompt = {3, 7, 7, 19};
const std::vector<TokenId> kEndTokens = {30, 31};

testing::MicroModelOptions Model() {
  return {.vocabulary_size = kVocabulary, .seed = 21, .logit_scale = 2.0f};
}

SamplingParameters ParametersOf(const std::string& name) {
  SamplingParameters p;
  if (name == "temperature") p.temperature = 0.6f;
  if (name == "top_k") p.top_k = 6;
  if (name == "top_p") p.top_p = 0.8f;
  if (name == "min_p") p.min_p = 0.08f;
  if (name == "repetition_penalty") p.repetition_penalty = 1.8f;
  if (name == "presence_penalty") p.presence_penalty = 1.5f;
  if (name == "frequency_penalty") p.frequency_penalty = 1.5f;
  if (name == "logit_bias") p.logit_bias = {{2, 2.0f}, {9, -100.0f}, {20, 1.0f}};
  if (name == "min_tokens") p.min_tokens = 3;
  return p;
}

class SampledLawTest : public ::testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    target_ = testing::MakeMicroEngine(Model()).release();
    testing::MicroModelOptions model = Model();
    model.noise = 0.1f;
    draft_ = testing::MakeMicroEngine(model).release();
  }
  static void TearDownTestSuite() {
    delete target_;
    delete draft_;
  }

  // Logits after the prompt and `output`, computed once.
  const std::vector<double>& Logits(const std::vector<TokenId>& output) {
    static std::map<std::vector<TokenId>, std::vector<double>> known;
    std::vector<double>& logits = known[output];
    if (!logits.empty()) return logits;
    std::vector<TokenId> tokens = kPrompt;
    tokens.insert(tokens.end(), output.begin(), output.end());
    engine::SequenceCache cache(&target_->blocks());
    EXPECT_TRUE(cache.Reserve(16));
    const engine::SequenceRows rows{.token_ids = tokens,
                                    .block_table = cache.block_table(),
                                    .logits_begin = static_cast<int32_t>(tokens.size()) - 1};
    const auto row = target_->Run({rows})->Row(0);
    logits.assign(row.begin(), row.end());
    return logits;
  }

  std::vector<double> Next(const SamplingParameters& parameters,
                           const std::vector<TokenId>& output) {
    return testing::ReferenceProbabilities(
        testing::ReferenceProcess(Logits(output), parameters, kEndTokens, kPrompt, output), false);
  }

  // [position][token]. An output that ended yields nothing more.
  std::vector<std::vector<double>> Marginals(const SamplingParameters& parameters) {
    std::vector<std::vector<double>> marginals(3, std::vector<double>(kVocabulary + 1, 0.0));
    Enumerate(parameters, {}, 1.0, &marginals);
    return marginals;
  }

  void Enumerate(const SamplingParameters& parameters, const std::vector<TokenId>& output,
                 double probability, std::vector<std::vector<double>>* marginals) {
    if (output.size() == 3 || probability == 0) return;
    if (!output.empty() && output.back() >= kEndTokens[0]) {
      // The bin beyond the vocabulary counts those that are over.
      for (size_t i = output.size(); i < 3; ++i) (*marginals)[i][kVocabulary] += probability;
      return;
    }
    const std::vector<double> next = Next(parameters, output);
    for (TokenId x = 0; x < kVocabulary; ++x) {
      (*marginals)[output.size()][x] += probability * next[x];
      std::vector<TokenId> longer = output;
      longer.push_back(x);
      Enumerate(parameters, longer, probability * next[x], marginals);
    }
  }

  static engine::Engine* target_;
  static engine::Engine* draft_;
};
engine::Engine* SampledLawTest::target_ = nullptr;
engine::Engine* SampledLawTest::draft_ = nullptr;

TEST_P(SampledLawTest, FirstThreeTokensFollowTheExactLaw) {
  const SamplingParameters parameters = ParametersOf(GetParam());
  const auto marginals = Marginals(parameters);
  std::vector<testing::CellRequest> requests;
  for (int seed = 0; seed < kSeeds; ++seed) {
    requests.push_back({kPrompt, parameters, kEndTokens, 3});
    requests.back().sampling.seed = static_cast<uint64_t>(seed);
  }
  std::vector<std::vector<TokenId>> without;
  for (const int window : {0, 2}) {
    SCOPED_TRACE(window);
    workers::VerifierSession verifier(target_, {});
    workers::DraftSession draft(draft_, {});
    testing::LocalCell cell(&verifier, window > 0 ? &draft : nullptr);
    const auto outputs = cell.Run(requests, {.window = window, .batch = 50});
    ASSERT_EQ(cell.error(), "");
    std::vector<std::vector<int>> counts(3, std::vector<int>(kVocabulary + 1, 0));
    for (const std::vector<TokenId>& output : outputs) {
      for (size_t i = 0; i < 3; ++i) ++counts[i][i < output.size() ? output[i] : kVocabulary];
    }
    for (int position = 0; position < 3; ++position) {
      SCOPED_TRACE(position);
      testing::ExpectFollows(counts[position], marginals[position], kSeeds);
    }
    if (window == 0) {
      without = outputs;
    } else {
      EXPECT_EQ(outputs, without);
      EXPECT_GT(cell.stats().accepted_at.at(0), 0);
      EXPECT_GT(cell.stats().rejected_at.at(0), 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Filters, SampledLawTest,
                         ::testing::Values("plain", "temperature", "top_k", "top_p", "min_p",
                                           "repetition_penalty", "presence_penalty",
                                           "frequency_penalty", "logit_bias", "min_tokens"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mirrorsd
