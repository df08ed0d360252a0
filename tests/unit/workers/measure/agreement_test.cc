// The measures against a naive computation: whole-prompt logits of each model, one stream at a time.

#include "workers/measure/agreement.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "common/noise.h"
#include "gtest/gtest.h"
#include "tests/support/micro_model.h"
#include "workers/engine/logits.h"

namespace mirrorsd::measure {
namespace {

constexpr int32_t kExitLayer = 2;
constexpr int32_t kTokens = 24;

std::unique_ptr<engine::Engine> MicroEngine(float noise) {
  testing::MicroModelOptions model;
  model.num_layers = 4;
  model.noise = noise;
  engine::EngineOptions options;
  options.num_threads = 1;
  options.kv_bytes = 16 << 20;
  return std::move(engine::Engine::Create(options, testing::MakeMicroModel(model))).value();
}

struct Naive {
  std::vector<std::vector<TokenId>> streams;
  int64_t rows = 0, matches = 0, rejects = 0;
  std::array<int64_t, 4> recalled{}, recalled_others{};
  double ratio_test = 0.0, bound = 0.0, independent = 0.0;
};

std::vector<double> Softmax(const float* row, int32_t size, double temperature) {
  std::vector<double> p(row, row + size);
  const double peak = *std::max_element(p.begin(), p.end());
  double sum = 0.0;
  for (double& x : p) sum += x = std::exp((x - peak) / temperature);
  for (double& x : p) x /= sum;
  return p;
}

// The ids by falling value, noise added above temperature 0.
std::vector<TokenId> Order(const float* row, int32_t size, float temperature, const NoiseKey& key) {
  std::vector<float> values(row, row + size);
  if (temperature > 0) {
    for (int32_t x = 0; x < size; ++x) values[x] = values[x] / temperature + GumbelNoise(key, x);
  }
  std::vector<TokenId> ids(size);
  for (int32_t x = 0; x < size; ++x) ids[x] = x;
  std::stable_sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) { return values[a] > values[b]; });
  return ids;
}

void NaiveStream(engine::Engine* target, engine::Engine* draft, std::vector<TokenId> tokens,
                 uint32_t prompt, float temperature, uint64_t seed, Naive* naive) {
  const int32_t size = target->info().vocabulary_size;
  naive->streams.emplace_back();
  for (int32_t position = 0; position < kTokens; ++position) {
    const auto of_target = engine::ComputePromptLogits(target, tokens, kExitLayer).value();
    const auto of_draft = engine::ComputePromptLogits(draft, tokens, kExitLayer).value();
    const int64_t last = (static_cast<int64_t>(tokens.size()) - 1) * size;
    const NoiseKey key{seed, prompt, static_cast<uint32_t>(position)};
    const TokenId token = Order(&of_target.logits[last], size, temperature, key)[0];
    const TokenId drafted = Order(&of_draft.logits[last], size, temperature, key)[0];
    const auto exit = Order(&of_target.exit_logits[last], size, temperature, key);
    std::vector<TokenId> others;
    for (const TokenId x : exit) {
      if (x != drafted) others.push_back(x);
    }
    ++naive->rows;
    naive->matches += token == drafted;
    naive->rejects += token != drafted;
    for (size_t i = 0; i < 4; ++i) {
      const int32_t k = kRecallTopKs[i];
      naive->recalled[i] += std::find(exit.begin(), exit.begin() + k, token) != exit.begin() + k;
      if (token == drafted) continue;
      naive->recalled_others[i] +=
          std::find(others.begin(), others.begin() + k, token) != others.begin() + k;
    }
    if (temperature > 0) {
      const auto p = Softmax(&of_target.logits[last], size, temperature);
      const auto q = Softmax(&of_draft.logits[last], size, temperature);
      double distance = 0.0;
      for (int32_t x = 0; x < size; ++x) {
        distance += std::fabs(p[x] - q[x]) / 2;
        naive->independent += p[x] * q[x];
      }
      naive->ratio_test += 1 - distance;
      naive->bound += (1 - distance) / (1 + distance);
    }
    tokens.push_back(token);
    naive->streams.back().push_back(token);
  }
}

class AgreementTest : public ::testing::TestWithParam<float> {};

TEST_P(AgreementTest, IsWhatTheNaiveComputationSays) {
  const auto target = MicroEngine(0.0f);
  const auto draft = MicroEngine(0.1f);
  const std::vector<MeasuredPrompt> prompts = {
      {"one", {1, 2, 3}}, {"two", {7}}, {"one", {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11, 12, 13, 14, 15, 16, 17}}};
  AgreementOptions options;
  options.temperature = GetParam();
  options.seed = 77;
  options.max_tokens = kTokens;
  options.batch = 2;  // so that the third starts later
  const auto report = MeasureAgreement({target.get(), draft.get(), 0, kExitLayer}, prompts, options);
  ASSERT_TRUE(report.ok()) << report.status();

  Naive naive;
  for (uint32_t i = 0; i < prompts.size(); ++i) {
    NaiveStream(target.get(), draft.get(), prompts[i].token_ids, i, GetParam(), 77, &naive);
  }
  const AgreementFigures& all = report->all;
  EXPECT_EQ(all.agreement.count(), naive.rows);
  EXPECT_EQ(all.agreement.sum(), static_cast<double>(naive.matches));
  EXPECT_GT(naive.rejects, 0);
  EXPECT_GT(naive.matches, 0);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(all.exit_recall[i].sum(), static_cast<double>(naive.recalled[i])) << i;
    EXPECT_EQ(all.exit_recall_given_reject[i].sum(), static_cast<double>(naive.recalled_others[i])) << i;
    EXPECT_EQ(all.exit_recall_given_reject[i].count(), naive.rejects) << i;
  }
  EXPECT_EQ(all.num_prompts, 3);
  ASSERT_EQ(report->kinds.size(), 2u);
  EXPECT_EQ(report->kinds[0].kind, "one");
  EXPECT_EQ(report->kinds[0].num_prompts, 2);
  EXPECT_EQ(report->kinds[0].agreement.count() + report->kinds[1].agreement.count(), naive.rows);
  EXPECT_EQ(all.variety.num_tokens, naive.rows);
  EXPECT_EQ(all.variety.num_distinct_runs, MeasureVariety(naive.streams).num_distinct_runs);
  if (GetParam() > 0) {
    EXPECT_NEAR(all.ratio_test.sum(), naive.ratio_test, 1e-3);
    EXPECT_NEAR(all.coupled_bound.sum(), naive.bound, 1e-3);
    EXPECT_NEAR(all.independent_expected.sum(), naive.independent, 1e-3);
    EXPECT_LE(all.independent.sum(), all.agreement.sum());
  }
}

INSTANTIATE_TEST_SUITE_P(Temperatures, AgreementTest, ::testing::Values(0.0f, 1.0f));

TEST(AgreementTest2, AModelAgreesWithItself) {
  const auto target = MicroEngine(0.0f);
  const auto same = MicroEngine(0.0f);
  AgreementOptions options;
  options.temperature = 1.0f;
  options.max_tokens = 40;
  options.window = 4;
  const auto report = MeasureAgreement({target.get(), same.get(), 0, 4}, {{"any", {3, 1}}}, options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->all.agreement.value(), 1.0);
  EXPECT_EQ(report->all.exit_recall[0].value(), 1.0) << "an exit after the last layer is the target";
  EXPECT_NEAR(report->all.ratio_test.value(), 1.0, 1e-9);
  EXPECT_LT(report->all.independent.value(), 1.0);
  EXPECT_EQ(report->all.rounds.rounds, 8) << "39 tokens by fives";
}

TEST(AgreementTest2, EndsAStreamAtAnEndToken) {
  const auto target = MicroEngine(0.0f);
  AgreementOptions options;
  options.max_tokens = 12;
  const std::vector<MeasuredPrompt> prompts = {{"any", {3, 1}}};
  const ForcedModels models{target.get(), nullptr, 2, 2};
  auto whole = ForceStreams(models, {{3, 1}}, 12, 1, [](const ForcedRow& row) -> absl::StatusOr<TokenId> {
    return static_cast<TokenId>(std::max_element(row.logits.begin(), row.logits.end()) - row.logits.begin());
  });
  ASSERT_TRUE(whole.ok());
  const TokenId end = (*whole)[0][5];
  const auto first = std::find((*whole)[0].begin(), (*whole)[0].end(), end) - (*whole)[0].begin();
  options.end_token_ids = {end};
  const auto report = MeasureAgreement(models, prompts, options);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->all.agreement.count(), first + 1) << "the row of the end token counts";
}

TEST(AgreementTest2, RefusesWhatCannotBeMeasured) {
  const auto target = MicroEngine(0.0f);
  AgreementOptions options;
  EXPECT_FALSE(MeasureAgreement({target.get(), nullptr, 2, 2}, {}, options).ok());
  EXPECT_FALSE(MeasureAgreement({target.get(), nullptr, 2, 2}, {{"any", {}}}, options).ok());
  EXPECT_FALSE(MeasureAgreement({target.get(), nullptr, 2, 2}, {{"any", {64}}}, options).ok());
  EXPECT_FALSE(MeasureAgreement({target.get(), nullptr, 2, 5}, {{"any", {1}}}, options).ok());
  EXPECT_FALSE(MeasureAgreement({target.get(), nullptr, 0, 2}, {{"any", {1}}}, options).ok());
  options.max_tokens = 512;
  EXPECT_FALSE(MeasureAgreement({target.get(), nullptr, 2, 2}, {{"any", {1}}}, options).ok());
}

}  // namespace
}  // namespace mirrorsd::measure
