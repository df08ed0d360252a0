#include "workers/scripts/scripted_draft.h"

#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"

namespace mirrorsd::scripts {
namespace {

constexpr int32_t kVocabulary = 50;
constexpr int kStreamTokens = 4000;
const std::vector<TokenId> kPrompt = {1, 2, 3};

SamplingParameters Greedy() {
  SamplingParameters sampling;
  sampling.temperature = 0;
  return sampling;
}

std::vector<TokenId> Stream() {
  std::vector<TokenId> tokens;
  for (int i = 0; i < kStreamTokens; ++i) tokens.push_back((i * 7 + i / 50) % kVocabulary);
  return tokens;
}

std::unique_ptr<ScriptedDraft> Make(const std::string& agreement, uint64_t seed = 1) {
  ScriptRecord story{.kind = "story", .prompt_ids = kPrompt, .sampling = Greedy(), .token_ids = Stream()};
  ScriptRecord json{.kind = "json", .prompt_ids = {9}, .sampling = Greedy(), .token_ids = Stream()};
  auto script = DraftScript::Parse("s", ScriptHeaderLine("m", kVocabulary) +
                                            ScriptRecordLine(story) + ScriptRecordLine(json));
  auto parsed = Agreement::Parse("a", agreement);
  auto draft = ScriptedDraft::Create(*std::move(script), *std::move(parsed), seed);
  EXPECT_TRUE(draft.ok()) << draft.status();
  return *std::move(draft);
}

// How many of the stream's positions it agrees on.
int NumAgreed(ScriptedDraft* draft, const std::vector<TokenId>& prompt) {
  const std::vector<TokenId> tokens = Stream();
  const auto* stream = draft->Find(prompt, Greedy());
  int agreed = 0;
  for (int i = 0; i < kStreamTokens; ++i) {
    const auto token =
        draft->Propose(stream, absl::MakeConstSpan(tokens).first(static_cast<size_t>(i)), kVocabulary);
    EXPECT_TRUE(token.has_value() && *token >= 0 && *token < kVocabulary);
    agreed += token == tokens[static_cast<size_t>(i)] ? 1 : 0;
  }
  return agreed;
}

TEST(ScriptedDraft, AgreesAsOftenAsItWasTold) {
  for (const double share : {0.0, 0.3, 0.8, 1.0}) {
    auto draft = Make(std::to_string(share));
    const double spread = std::sqrt(share * (1 - share) * kStreamTokens);
    EXPECT_NEAR(NumAgreed(draft.get(), kPrompt), share * kStreamTokens, 4 * spread) << share;
    EXPECT_EQ(draft->counts().num_agreed + draft->counts().num_disagreed, kStreamTokens);
  }
}

TEST(ScriptedDraft, ByKind) {
  auto draft = Make("json=0.2,0.9");
  EXPECT_NEAR(NumAgreed(draft.get(), kPrompt), 0.9 * kStreamTokens, 80);
  EXPECT_NEAR(NumAgreed(draft.get(), {9}), 0.2 * kStreamTokens, 110);
}

// Wrong tokens are spread evenly over all others, and neighbouring positions know nothing of each other.
TEST(ScriptedDraft, DisagreementsAreEvenAndIndependent) {
  auto draft = Make("0.5");
  const std::vector<TokenId> tokens = Stream();
  const auto* stream = draft->Find(kPrompt, Greedy());
  std::map<TokenId, int> wrong;
  int num_wrong = 0, both = 0;
  bool before = false;
  for (int i = 0; i < kStreamTokens; ++i) {
    const TokenId token = *draft->Propose(
        stream, absl::MakeConstSpan(tokens).first(static_cast<size_t>(i)), kVocabulary);
    const bool agrees = token == tokens[static_cast<size_t>(i)];
    both += before && agrees ? 1 : 0;
    before = agrees;
    if (agrees) continue;
    ++num_wrong;
    // Its distance on the ring of ids, never 0: even whatever the recorded token is.
    ++wrong[(token - tokens[static_cast<size_t>(i)] + kVocabulary) % kVocabulary];
  }
  EXPECT_EQ(wrong.size(), static_cast<size_t>(kVocabulary - 1));
  double chi_square = 0;
  const double expected = num_wrong / (kVocabulary - 1.0);
  for (const auto& [distance, count] : wrong) {
    chi_square += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_square, 95);  // 48 degrees of freedom: 1 in 20,000
  EXPECT_NEAR(both, kStreamTokens / 4, 130);
}

TEST(ScriptedDraft, IsOfOneMindAboutAPositionAndOfAnotherWithAnotherSeed) {
  auto draft = Make("0.5"), again = Make("0.5"), other = Make("0.5", 2);
  const std::vector<TokenId> tokens = Stream();
  int differ = 0;
  for (size_t i = 0; i < 200; ++i) {
    const auto output = absl::MakeConstSpan(tokens).first(i);
    const auto token = draft->Propose(draft->Find(kPrompt, Greedy()), output, kVocabulary);
    EXPECT_EQ(draft->Propose(draft->Find(kPrompt, Greedy()), output, kVocabulary), token);
    EXPECT_EQ(again->Propose(again->Find(kPrompt, Greedy()), output, kVocabulary), token);
    differ += other->Propose(other->Find(kPrompt, Greedy()), output, kVocabulary) != token ? 1 : 0;
  }
  EXPECT_GT(differ, 50);
}

TEST(ScriptedDraft, OffTheStreamTheModelSpeaks) {
  auto draft = Make("1");
  const auto* stream = draft->Find(kPrompt, Greedy());
  std::vector<TokenId> output = Stream();
  output.resize(10);
  EXPECT_EQ(draft->Propose(stream, output, kVocabulary), Stream()[10]);
  output[4] = (output[4] + 1) % kVocabulary;
  EXPECT_EQ(draft->Propose(stream, output, kVocabulary), std::nullopt);
  EXPECT_EQ(draft->Propose(stream, Stream(), kVocabulary), std::nullopt);
  EXPECT_EQ(draft->Find({7}, Greedy()), nullptr);
  EXPECT_EQ(draft->Propose(nullptr, {}, kVocabulary), std::nullopt);
  const ScriptCounts counts = draft->counts();
  EXPECT_EQ(counts.num_agreed, 1);
  EXPECT_EQ(counts.num_left, 1);
  EXPECT_EQ(counts.num_past_end, 1);
  EXPECT_EQ(counts.num_unscripted, 1);
}

TEST(ScriptedDraft, NeverProposesAnIdThatItMayNot) {
  auto draft = Make("1");
  const std::vector<TokenId> tokens = Stream();
  for (size_t i = 0; i < 300; ++i) {
    const auto token = draft->Propose(draft->Find(kPrompt, Greedy()), absl::MakeConstSpan(tokens).first(i), 10);
    ASSERT_TRUE(token.has_value());
    EXPECT_LT(*token, 10);
    if (tokens[i] < 10) { EXPECT_EQ(*token, tokens[i]); }
  }
}

TEST(Agreement, WhatIsWrongIsNamed) {
  const auto bad = [](const std::string& text, const std::string& words) {
    const auto parsed = Agreement::Parse("draft-script-agreement", text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(GetErrorInfo(parsed.status())->field, "draft-script-agreement");
    EXPECT_NE(parsed.status().ToString().find(words), std::string::npos) << parsed.status();
  };
  bad("", "has 0 bytes");
  bad("often", "'often' has no share");
  bad("1.01", "'1.01' has no share");
  bad("-0.1", "has no share");
  bad("nan", "has no share");
  bad("a=0.5,", "'' has no share");
  bad("a=0.5,b", "'b' has no share");
  bad("0.5,0.6", "a second number");
  bad("A=0.5", "names no kind");
  bad("a=0.5,a=0.6", "names a kind again");
}

TEST(ScriptedDraft, EveryKindNeedsAnAgreement) {
  const auto create = [](const std::string& agreement) {
    ScriptRecord record{.kind = "story", .prompt_ids = kPrompt, .token_ids = {1}};
    auto script = DraftScript::Parse("s", ScriptHeaderLine("m", kVocabulary) + ScriptRecordLine(record));
    return ScriptedDraft::Create(*std::move(script), *Agreement::Parse("a", agreement), 0).status();
  };
  EXPECT_TRUE(create("story=0.5").ok());
  EXPECT_NE(create("story=0.5,json=1").ToString().find("no kind 'json'"), std::string::npos);
  const absl::Status missing = create("json=1");
  EXPECT_EQ(GetErrorInfo(missing)->field, "draft-script-agreement");
}

}  // namespace
}  // namespace mirrorsd::scripts
