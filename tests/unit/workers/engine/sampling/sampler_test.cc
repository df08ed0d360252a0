// The sampler against a reference that knows no shortcut, on random rows with every parameter; and the
// edges: ties, NaN, infinities, ids beyond the row, greedy.

#include "workers/engine/sampling/sampler.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"
#include "tests/support/reference_sampler.h"

namespace mirrorsd::engine {
namespace {

using ::mirrorsd::testing::ReferenceChoice;
using ::mirrorsd::testing::ReferenceProcess;
using ::mirrorsd::testing::ReferenceSample;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Request {
  SamplingParameters parameters;
  std::vector<TokenId> end_token_ids;
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;

  SamplingState State() const {
    SamplingState state(parameters, end_token_ids, static_cast<int32_t>(prompt.size()));
    state.Append(prompt);
    state.Append(output);
    return state;
  }
};

// Each parameter is active in half of the requests.
Request RandomRequest(std::mt19937_64& random, int vocabulary) {
  const auto real = [&](float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random);
  };
  const auto coin = [&] { return random() % 2 == 0; };
  const auto token = [&] { return static_cast<TokenId>(random() % vocabulary); };
  Request request;
  SamplingParameters& p = request.parameters;
  p.temperature = random() % 4 == 0 ? 0.0f : real(0.1f, 2.0f);
  if (coin()) p.top_k = 1 + static_cast<int32_t>(random() % vocabulary);
  if (coin()) p.top_p = real(0.05f, 0.999f);
  if (coin()) p.min_p = real(0.0001f, 0.5f);
  if (coin()) p.repetition_penalty = real(0.5f, 2.0f);
  if (coin()) p.presence_penalty = real(-2.0f, 2.0f);
  if (coin()) p.frequency_penalty = real(-2.0f, 2.0f);
  if (coin()) p.min_tokens = static_cast<int32_t>(random() % 12);
  for (TokenId x = 0; x < vocabulary && coin(); x += 1 + static_cast<int>(random() % 9)) {
    p.logit_bias.push_back({x, real(-5.0f, 5.0f)});
  }
  p.seed = random();
  p.sample_index = static_cast<uint32_t>(random() % 3);
  request.end_token_ids = {token(), token()};
  for (int i = 1 + static_cast<int>(random() % 20); i > 0; --i) request.prompt.push_back(token());
  for (int i = static_cast<int>(random() % 12); i > 0; --i) request.output.push_back(token());
  return request;
}

std::vector<float> RandomLogits(std::mt19937_64& random, int vocabulary) {
  const NoiseKey key{.seed = random()};
  std::vector<float> logits;
  for (TokenId x = 0; x < vocabulary; ++x) logits.push_back(3.0f * (GumbelNoise(key, x) - 0.5f));
  return logits;
}

TEST(SamplerTest, AgreesWithTheReference) {
  std::mt19937_64 random(20260101);
  int compared = 0;
  for (const int vocabulary : {5, 32, 300, 1003}) {
    Sampler sampler(vocabulary);
    for (int i = 0; i < 600; ++i) {
      const Request request = RandomRequest(random, vocabulary);
      std::vector<float> row = RandomLogits(random, vocabulary);
      const SamplingState state = request.State();
      const std::vector<double> processed =
          ReferenceProcess({row.begin(), row.end()}, request.parameters, request.end_token_ids,
                           request.prompt, request.output);
      const ReferenceChoice expected = ReferenceSample(
          processed, request.parameters.temperature == 0, state.noise_key());
      const absl::StatusOr<TokenId> token = sampler.Sample(state, absl::MakeSpan(row));
      ASSERT_TRUE(token.ok()) << token.status();
      if (expected.margin < 1e-4) continue;  // closer than float rounding may decide
      EXPECT_EQ(*token, expected.token) << "vocabulary " << vocabulary << ", request " << i;
      ++compared;
    }
  }
  EXPECT_GT(compared, 2300);
}

// The draft's best guess, where it sees everything, is the target's token.
TEST(SamplerTest, RankingBeginsWithTheTargetsToken) {
  std::mt19937_64 random(7);
  constexpr int kVocabulary = 60;
  Sampler sampler(kVocabulary);
  for (int i = 0; i < 500; ++i) {
    const Request request = RandomRequest(random, kVocabulary);
    const std::vector<float> row = RandomLogits(random, kVocabulary);
    std::vector<float> copy = row;
    const TokenId token = sampler.Sample(request.State(), absl::MakeSpan(copy)).value();
    copy = row;
    const auto ranked = sampler.Rank(request.State(), absl::MakeSpan(copy), 64);
    ASSERT_TRUE(ranked.ok());
    EXPECT_EQ(ranked->front().token, token);
    for (size_t r = 1; r < ranked->size(); ++r) {
      EXPECT_GE((*ranked)[r - 1].score, (*ranked)[r].score);
    }
  }
}

TEST(SamplerTest, RankKeepsToTheRowItIsGiven) {
  Sampler sampler(100);
  Request request{.prompt = {1}};
  request.parameters.logit_bias = {{99, 100.0f}};
  std::vector<float> row(100, 0.0f);
  row[80] = 50.0f;
  row[30] = 40.0f;
  const auto ranked = sampler.Rank(request.State(), absl::MakeSpan(row).first(64), 16);
  ASSERT_TRUE(ranked.ok());
  EXPECT_EQ(ranked->size(), 16u);
  EXPECT_EQ(ranked->front().token, 30);
}

TEST(SamplerTest, TiesGoToTheLowestId) {
  Sampler sampler(50);
  Request request{.prompt = {1}};
  request.parameters.temperature = 0.0f;
  std::vector<float> row(50, 1.0f);
  row[0] = 0.0f;
  EXPECT_EQ(sampler.Sample(request.State(), absl::MakeSpan(row)).value(), 1);
}

// Values equal to the k-th are all kept; the nucleus takes equal values by id.
TEST(SamplerTest, FiltersAtTies) {
  RowFilter filter;
  SamplingParameters p;
  p.top_k = 2;
  const std::vector<float> row = {1.0f, 3.0f, 2.0f, 2.0f, 0.0f, 2.0f};
  std::vector<TokenId> kept;
  for (const RankedToken& one : filter.Keep(p, row, 3.0f)) kept.push_back(one.token);
  EXPECT_EQ(kept, (std::vector<TokenId>{1, 2, 3, 5}));

  p.top_k = 0;
  p.top_p = 0.5f;
  const std::vector<float> flat(8, 0.0f);
  kept.clear();
  for (const RankedToken& one : filter.Keep(p, flat, 0.0f)) kept.push_back(one.token);
  EXPECT_EQ(kept, (std::vector<TokenId>{0, 1, 2, 3}));
}

// A nucleus larger than the first guesses of its size: every round of the search is taken.
TEST(SamplerTest, WideNucleus) {
  RowFilter filter;
  SamplingParameters p;
  p.top_p = 0.75f;
  std::vector<float> flat(8192, 1.5f);
  EXPECT_EQ(filter.Keep(p, flat, 1.5f).size(), 6144u);
  p.top_p = 0.00390625f;
  EXPECT_EQ(filter.Keep(p, flat, 1.5f).size(), 32u);
  flat[5000] = 1.6f;
  EXPECT_EQ(filter.Keep(p, flat, 1.6f).front().token, 5000);
}

TEST(SamplerTest, BrokenRowsAreErrorsOfTheirOwn) {
  Sampler sampler(40);
  for (const bool greedy : {true, false}) {
    for (const bool filtered : {true, false}) {
      Request request{.prompt = {1, 2}};
      request.parameters.temperature = greedy ? 0.0f : 1.0f;
      request.parameters.top_p = filtered ? 0.9f : 1.0f;
      for (const float bad : {std::nanf(""), kInfinity}) {
        for (const int at : {0, 17, 39}) {
          std::vector<float> row(40, 0.5f);
          row[at] = bad;
          const auto token = sampler.Sample(request.State(), absl::MakeSpan(row));
          ASSERT_FALSE(token.ok());
          EXPECT_EQ(GetErrorInfo(token.status())->reason, "NAN_LOGITS");
          row.assign(40, 0.5f);
          row[at] = bad;
          EXPECT_FALSE(sampler.Rank(request.State(), absl::MakeSpan(row), 8).ok());
        }
      }
      std::vector<float> nothing(40, -kInfinity);
      EXPECT_FALSE(sampler.Sample(request.State(), absl::MakeSpan(nothing)).ok());
      std::vector<float> one(40, -kInfinity);
      one[31] = -1e30f;
      EXPECT_EQ(sampler.Sample(request.State(), absl::MakeSpan(one)).value(), 31);
    }
  }
}

TEST(SamplerTest, EveryTokenMaskedIsAnError) {
  Sampler sampler(4);
  Request request{.end_token_ids = {0, 1, 2, 3}, .prompt = {1}};
  request.parameters.min_tokens = 1;
  std::vector<float> row(4, 0.0f);
  EXPECT_FALSE(sampler.Sample(request.State(), absl::MakeSpan(row)).ok());
}

// A broken end token is not repaired by its mask.
TEST(SamplerTest, MaskDoesNotHideNan) {
  Sampler sampler(4);
  Request request{.end_token_ids = {2}, .prompt = {1}};
  request.parameters.min_tokens = 1;
  std::vector<float> row = {0.0f, 1.0f, std::nanf(""), 2.0f};
  EXPECT_FALSE(sampler.Sample(request.State(), absl::MakeSpan(row)).ok());
}

TEST(SamplerTest, MinTokensEndsByOutputPosition) {
  Sampler sampler(8);
  Request request{.end_token_ids = {5}, .prompt = {1, 2, 3}};
  request.parameters.temperature = 0.0f;
  request.parameters.min_tokens = 2;
  for (int position = 0; position < 4; ++position) {
    std::vector<float> row(8, 0.0f);
    row[5] = 9.0f;
    row[6] = 8.0f;
    EXPECT_EQ(sampler.Sample(request.State(), absl::MakeSpan(row)).value(), position < 2 ? 6 : 5);
    request.output.push_back(0);
  }
}

TEST(SamplerTest, IdsBeyondTheVocabularyAreSkipped) {
  Sampler sampler(8);
  Request request{.end_token_ids = {100, -3}, .prompt = {7, 5000}, .output = {9, -1}};
  request.parameters.logit_bias = {{-1, 5.0f}, {8, 5.0f}, {3, 50.0f}};
  request.parameters.repetition_penalty = 1.3f;
  request.parameters.min_tokens = 50;
  std::vector<float> row(8, 1.0f);
  EXPECT_EQ(sampler.Sample(request.State(), absl::MakeSpan(row)).value(), 3);
}

TEST(SamplerTest, SmallestTemperaturesAreGreedy) {
  Sampler sampler(8);
  for (const float temperature : {0.0f, 1e-38f, 1e-5f, 2e-5f}) {
    Request request{.prompt = {1}};
    request.parameters.temperature = temperature;
    std::vector<float> row = {0.0f, 0.5f, 30.0f, 29.9f, -5.0f, 0.0f, 1.0f, 2.0f};
    EXPECT_EQ(sampler.Sample(request.State(), absl::MakeSpan(row)).value(), 2);
  }
}

TEST(SamplingStateTest, TruncateUndoesAppend) {
  Request request{.prompt = {1, 2, 2}, .output = {2, 4}};
  request.parameters.presence_penalty = 1.0f;
  SamplingState state = request.State();
  const auto before = state.occurrences();
  state.Append({2, 5, 5, 1});
  EXPECT_EQ(state.output_position(), 6);
  EXPECT_EQ(state.occurrences().at(2).in_prompt, 2);
  EXPECT_EQ(state.occurrences().at(2).in_output, 2);
  state.Truncate(5);
  EXPECT_EQ(state.occurrences().size(), before.size());
  for (const auto& [token, seen] : before) {
    EXPECT_EQ(state.occurrences().at(token).in_prompt, seen.in_prompt);
    EXPECT_EQ(state.occurrences().at(token).in_output, seen.in_output);
  }
  state.Truncate(2);
  EXPECT_EQ(state.output_position(), 0);
  EXPECT_EQ(state.occurrences().at(2).in_prompt, 1);
  EXPECT_EQ(state.occurrences().count(4), 0u);
}

}  // namespace
}  // namespace mirrorsd::engine
