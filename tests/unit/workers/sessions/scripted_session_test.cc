// A draft that follows a script: the tokens are the target's own all the same, and windows are accepted as often as
// the agreement says, at every row, whatever the draft model itself would have said.

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/workers/sessions/session_fixtures.h"
#include "workers/scripts/scripted_draft.h"

namespace mirrorsd::testing {
namespace {

constexpr int32_t kVocabulary = 64;
constexpr int32_t kWindow = 4;
constexpr int32_t kMaxTokens = 120;
constexpr size_t kNumRequests = 40;

MicroModelOptions Target() {
  return {.vocabulary_size = kVocabulary, .num_layers = 3, .max_positions = 256, .seed = 21};
}

// A model that has nothing to do with the target: without a script it is hardly ever right.
MicroModelOptions OtherDraft() {
  return {.vocabulary_size = kVocabulary, .max_positions = 256, .seed = 99};
}

std::vector<CellRequest> Requests(float temperature) {
  std::vector<CellRequest> requests;
  for (size_t i = 0; i < kNumRequests; ++i) {
    requests.push_back(
        MakeRequest(i, {.temperature = temperature}, kVocabulary, kMaxTokens));
  }
  return requests;
}

struct Outcome {
  std::vector<std::vector<TokenId>> tokens;
  CellStats stats;
};

Outcome RunCell(const std::vector<CellRequest>& requests, std::shared_ptr<scripts::ScriptedDraft> script,
            int32_t window) {
  auto target = MakeMicroEngine(Target(), {.num_kv_blocks = 1024});
  auto draft = MakeMicroEngine(OtherDraft(), {.num_kv_blocks = 1024});
  workers::VerifierSession verifier(target.get(), {});
  workers::DraftSession drafter(draft.get(), {.script = std::move(script)});
  LocalCell cell(&verifier, &drafter);
  Outcome outcome;
  outcome.tokens = cell.Run(requests, {.window = window, .batch = 8});
  outcome.stats = cell.stats();
  EXPECT_EQ(cell.error(), "");
  return outcome;
}

// Half of the requests are "story", the others "json".
std::string Record(const std::vector<CellRequest>& requests,
                   const std::vector<std::vector<TokenId>>& tokens, size_t num_recorded) {
  std::string text = scripts::ScriptHeaderLine("micro", kVocabulary);
  for (size_t i = 0; i < num_recorded; ++i) {
    text += scripts::ScriptRecordLine({.kind = i % 2 == 0 ? "story" : "json",
                                       .prompt_ids = requests[i].prompt,
                                       .sampling = requests[i].sampling,
                                       .token_ids = tokens[i]});
  }
  return text;
}

std::shared_ptr<scripts::ScriptedDraft> Script(const std::string& text,
                                               const std::string& agreement) {
  auto script = scripts::DraftScript::Parse("script", text);
  EXPECT_TRUE(script.ok()) << script.status();
  return scripts::ScriptedDraft::Create(*std::move(script),
                                        *scripts::Agreement::Parse("a", agreement), 5)
      .value();
}

class ScriptedSessionTest : public ::testing::TestWithParam<float> {};

TEST_P(ScriptedSessionTest, TokensAreTheTargetsAndAcceptanceIsWhatWasSet) {
  const std::vector<CellRequest> requests = Requests(GetParam());
  const Outcome plain = RunCell(requests, nullptr, 0);
  const Outcome own = RunCell(requests, nullptr, kWindow);
  EXPECT_EQ(own.tokens, plain.tokens);
  const std::string text = Record(requests, plain.tokens, kNumRequests);
  for (const double share : {0.0, 0.4, 0.8, 1.0}) {
    auto script = Script(text, std::to_string(share));
    const Outcome scripted = RunCell(requests, script, kWindow);
    EXPECT_EQ(scripted.tokens, plain.tokens);
    int64_t verified = 0;
    for (size_t row = 0; row < kWindow; ++row) {
      const auto at = [&](const std::vector<int64_t>& counts) {
        return static_cast<double>(row < counts.size() ? counts[row] : 0);
      };
      const double accepted = at(scripted.stats.accepted_at);
      const double tried = accepted + at(scripted.stats.rejected_at);
      verified += static_cast<int64_t>(tried);
      // Given that the rows before it were accepted, each is with the same probability.
      const double spread = std::sqrt(share * (1 - share) * tried);
      EXPECT_NEAR(accepted, share * tried, 4 * spread) << "row " << row << ", share " << share;
    }
    EXPECT_GT(verified, 2000);
    EXPECT_EQ(script->counts().num_unscripted, 0);
    if (share == 0.4) {
      EXPECT_GT(script->counts().num_left, 0);
    }
  }
}

TEST_P(ScriptedSessionTest, WhatWasNotRecordedIsTheModelsOwn) {
  const std::vector<CellRequest> requests = Requests(GetParam());
  const Outcome plain = RunCell(requests, nullptr, 0);
  const Outcome own = RunCell(requests, nullptr, kWindow);
  // Streams of half the length, of half the requests.
  std::vector<std::vector<TokenId>> halves = plain.tokens;
  for (auto& tokens : halves) tokens.resize(tokens.size() / 2);
  auto script = Script(Record(requests, halves, kNumRequests / 2), "story=1,json=0.9");
  const Outcome scripted = RunCell(requests, script, kWindow);
  EXPECT_EQ(scripted.tokens, plain.tokens);
  EXPECT_LT(scripted.stats.rounds, own.stats.rounds);
  const scripts::ScriptCounts counts = script->counts();
  EXPECT_GT(counts.num_unscripted, 0);
  EXPECT_GT(counts.num_past_end, 0);
  EXPECT_GT(counts.num_agreed, 10 * counts.num_disagreed);
}

INSTANTIATE_TEST_SUITE_P(GreedyAndSampled, ScriptedSessionTest, ::testing::Values(0.0f, 1.0f));

// A request with another seed is another request.
TEST(ScriptedSession, AScriptIsOfItsSampling) {
  std::vector<CellRequest> requests = Requests(1.0f);
  const Outcome plain = RunCell(requests, nullptr, 0);
  auto script = Script(Record(requests, plain.tokens, kNumRequests), "1");
  for (CellRequest& request : requests) request.sampling.seed += 77;
  const Outcome other = RunCell(requests, script, kWindow);
  EXPECT_NE(other.tokens, plain.tokens);
  EXPECT_EQ(script->counts().num_agreed, 0);
  EXPECT_GT(script->counts().num_unscripted, 0);
}

// A scheduler that asks for a continuation before it told the prompt gets the model's own tokens.
TEST(ScriptedSession, AnUnfinishedPromptIsNoRequest) {
  auto engine = MakeMicroEngine(OtherDraft());
  const std::vector<CellRequest> requests = Requests(0.0f);
  auto script = Script(Record(requests, {{1}}, 1), "1");
  workers::DraftSession session(engine.get(), {.script = script});
  session.Handle(StartSequence{.sequence_id = 1, .prompt_length = 100, .total_length = 100});
  session.Handle(AppendTokens{1, 0, {1, 2, 3}});
  session.Handle(StartRollout{.sequence_id = 1,
                              .round_id = 1,
                              .committed_length = 3,
                              .path_offset = 3,
                              .roots = {{.num_accepted = 0, .token = 4}},
                              .depth = 2});
  size_t num_tokens = 0;
  while (session.HasWork()) {
    session.Work([&](WorkerReport report) {
      if (auto* progress = std::get_if<RolloutProgress>(&report)) {
        num_tokens += progress->token_ids.size();
      }
    });
  }
  EXPECT_EQ(num_tokens, 2u);
  EXPECT_EQ(script->counts().num_agreed + script->counts().num_unscripted, 0);
}

}  // namespace
}  // namespace mirrorsd::testing
