#include "workers/scripts/draft_script.h"

#include <string>
#include <utility>

#include "common/error.h"
#include "gtest/gtest.h"

namespace mirrorsd::scripts {
namespace {

const std::string kHeader = ScriptHeaderLine("a-target", 64);

std::string Line(const std::string& fields) { return kHeader + "{" + fields + "}\n"; }

const std::string kGood = R"("kind":"story","prompt_ids":[1,2],"token_ids":[3])";

void ExpectBad(const std::string& text, const std::string& field, const std::string& words,
               const ScriptLimits& limits = {}) {
  const auto script = DraftScript::Parse("dir/s.jsonl", text, limits);
  ASSERT_FALSE(script.ok()) << words;
  const auto info = GetErrorInfo(script.status());
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "BAD_FILE");
  EXPECT_EQ(info->field, field);
  EXPECT_NE(script.status().ToString().find(words), std::string::npos) << script.status();
}

TEST(DraftScript, WhatIsWrittenIsFound) {
  ScriptRecord greedy{.kind = "story", .prompt_ids = {1, 2}, .token_ids = {3, 63, 0}};
  greedy.sampling.temperature = 0;
  ScriptRecord sampled{.kind = "json", .prompt_ids = {1, 2}, .token_ids = {5}};
  sampled.sampling = {.temperature = 0.7f, .top_k = 40, .top_p = 0.9f, .min_p = 0.01f,
                      .repetition_penalty = 1.1f, .presence_penalty = -1, .frequency_penalty = 0.3f,
                      .min_tokens = 3, .logit_bias = {{7, -2.5f}, {9, 4}},
                      .seed = 0xfedcba9876543210u, .sample_index = 2};
  const auto script = DraftScript::Parse(
      "s", kHeader + ScriptRecordLine(greedy) + "\n" + ScriptRecordLine(sampled));
  ASSERT_TRUE(script.ok()) << script.status();
  EXPECT_EQ(script->model_name(), "a-target");
  EXPECT_EQ(script->vocabulary_size(), 64);
  EXPECT_EQ(script->num_streams(), 2u);
  EXPECT_EQ(script->Kinds(), (std::vector<std::string>{"json", "story"}));
  for (const ScriptRecord& record : {greedy, sampled}) {
    const auto* stream = script->Find(KeyOf(record.prompt_ids, record.sampling));
    ASSERT_NE(stream, nullptr) << record.kind;
    EXPECT_EQ(stream->kind, record.kind);
    EXPECT_EQ(stream->token_ids, record.token_ids);
  }
  EXPECT_EQ(script->Find(KeyOf({1, 2, 3}, greedy.sampling)), nullptr);
}

// The same tokens by construction: the same key. Anything that may change a token: another one.
TEST(DraftScript, TheKeyHasWhatDecidesTheTokens) {
  const std::vector<TokenId> prompt = {4, 5, 6};
  SamplingParameters greedy;
  greedy.temperature = 0;
  SamplingParameters other = greedy;
  other.seed = 9;
  other.top_k = 3;
  other.top_p = 0.5f;
  other.sample_index = 4;
  EXPECT_EQ(KeyOf(prompt, greedy), KeyOf(prompt, other));
  const auto differs = [&](const SamplingParameters& base, auto change) {
    SamplingParameters changed = base;
    change(&changed);
    EXPECT_NE(KeyOf(prompt, base), KeyOf(prompt, changed));
  };
  differs(greedy, [](auto* s) { s->temperature = 1; });
  differs(greedy, [](auto* s) { s->repetition_penalty = 1.2f; });
  differs(greedy, [](auto* s) { s->presence_penalty = 1; });
  differs(greedy, [](auto* s) { s->frequency_penalty = 1; });
  differs(greedy, [](auto* s) { s->min_tokens = 1; });
  differs(greedy, [](auto* s) { s->logit_bias = {{1, 1}}; });
  SamplingParameters sampled;
  differs(sampled, [](auto* s) { s->seed = 1; });
  differs(sampled, [](auto* s) { s->sample_index = 1; });
  differs(sampled, [](auto* s) { s->top_k = 1; });
  differs(sampled, [](auto* s) { s->top_p = 0.5f; });
  differs(sampled, [](auto* s) { s->min_p = 0.5f; });
  EXPECT_NE(KeyOf({4, 5}, greedy), KeyOf({5, 4}, greedy));
}

TEST(DraftScript, WithoutSamplingARecordIsGreedy) {
  const auto script = DraftScript::Parse("s", Line(kGood));
  ASSERT_TRUE(script.ok()) << script.status();
  SamplingParameters greedy;
  greedy.temperature = 0;
  EXPECT_NE(script->Find(KeyOf({1, 2}, greedy)), nullptr);
  EXPECT_EQ(script->Find(KeyOf({1, 2}, {})), nullptr);
}

TEST(DraftScript, HeadersAreLookedAt) {
  ExpectBad("", "dir/s.jsonl", "has no header");
  ExpectBad("\n\n", "dir/s.jsonl", "has no header");
  ExpectBad(kHeader, "dir/s.jsonl", "has no record");
  ExpectBad("{}", "dir/s.jsonl:1", "format is missing");
  ExpectBad("[]", "dir/s.jsonl:1", "is no object");
  ExpectBad("x", "dir/s.jsonl:1", "is not JSON");
  ExpectBad(R"({"format":"2","model":"m","vocabulary_size":4})", "dir/s.jsonl:1", "format is another");
  const std::string good = R"({"format":"mirrorsd-draft-script/1",)";
  ExpectBad(good + R"("model":"m"})", "dir/s.jsonl:1", "vocabulary_size is missing");
  ExpectBad(good + R"("vocabulary_size":4})", "dir/s.jsonl:1", "model is missing");
  ExpectBad(good + R"("model":3,"vocabulary_size":4})", "dir/s.jsonl:1", "model is no name");
  ExpectBad(good + R"("model":"m","vocabulary_size":0})", "dir/s.jsonl:1", "vocabulary_size is no whole");
  ExpectBad(good + R"("model":"m","vocabulary_size":1e9})", "dir/s.jsonl:1", "vocabulary_size is no");
  ExpectBad(good + R"("model":"m","vocabulary_size":4,"x":1})", "dir/s.jsonl:1", "x is not known");
}

TEST(DraftScript, EveryFieldOfARecordIsBoundedAndNamed) {
  const auto bad = [](const std::string& fields, const std::string& words) {
    ExpectBad(Line(fields), "dir/s.jsonl:2", words);
  };
  bad(R"("prompt_ids":[1],"token_ids":[3])", "kind is missing");
  bad(R"("kind":"A b","prompt_ids":[1],"token_ids":[3])", "kind is no kind");
  bad(R"("kind":7,"prompt_ids":[1],"token_ids":[3])", "kind is no kind");
  bad(R"("kind":"k","token_ids":[3])", "prompt_ids is missing");
  bad(R"("kind":"k","prompt_ids":[1])", "token_ids is missing");
  bad(R"("kind":"k","prompt_ids":[],"token_ids":[3])", "prompt_ids is no list");
  bad(R"("kind":"k","prompt_ids":5,"token_ids":[3])", "prompt_ids is no list");
  bad(R"("kind":"k","prompt_ids":[1,64],"token_ids":[3])", "prompt_ids[1] is no token id");
  bad(R"("kind":"k","prompt_ids":[1],"token_ids":[3,-1])", "token_ids[1] is no token id");
  bad(R"("kind":"k","prompt_ids":[1],"token_ids":[1.5])", "token_ids[0] is no token id");
  bad(R"("kind":"k","prompt_ids":[1],"token_ids":["1"])", "token_ids[0] is no token id");
  bad(R"("kind":"k","prompt_ids":[1],"token_ids":[[1]])", "token_ids[0] is no token id");
  bad(kGood + R"(,"more":1)", "more is not known");
  const auto bad_sampling = [&](const std::string& fields, const std::string& words) {
    bad(kGood + R"(,"sampling":)" + fields, words);
  };
  bad_sampling("3", "sampling is no object");
  bad_sampling(R"({"heat":1})", "sampling.heat is not known");
  bad_sampling(R"({"temperature":101})", "sampling.temperature is no number in range");
  bad_sampling(R"({"temperature":"hot"})", "sampling.temperature is no number in range");
  bad_sampling(R"({"top_p":0})", "sampling.top_p is no number in range");
  bad_sampling(R"({"min_p":-0.1})", "sampling.min_p is no number in range");
  bad_sampling(R"({"top_k":-1})", "sampling.top_k is no whole number");
  bad_sampling(R"({"seed":1.5})", "sampling.seed is no whole number");
  bad_sampling(R"({"sample_index":4294967296})", "sampling.sample_index is no whole number");
  bad_sampling(R"({"logit_bias":[1]})", "sampling.logit_bias is no object");
  bad_sampling(R"({"logit_bias":{"64":1}})", "sampling.logit_bias.64 is no token id");
  bad_sampling(R"({"logit_bias":{"01":1}})", "sampling.logit_bias.01 is no token id");
  bad_sampling(R"({"logit_bias":{"1":101}})", "sampling.logit_bias.1 is no number in range");
}

TEST(DraftScript, FilesAreBounded) {
  const std::string record = "{" + kGood + "}\n";
  ExpectBad(kHeader + record + record, "dir/s.jsonl:3", "is the same request as line 2");
  ExpectBad(kHeader + record, "dir/s.jsonl", "bytes", {.max_file_bytes = 10});
  ExpectBad(kHeader + record, "dir/s.jsonl:2", "bytes of JSON", {.max_line_bytes = 10});
  ExpectBad(kHeader + record, "dir/s.jsonl:2", "one record too many", {.max_records = 0});
  ExpectBad(kHeader + record, "dir/s.jsonl:2", "prompt_ids is no list", {.max_tokens = 1});
  ExpectBad(kHeader + std::string(100, '['), "dir/s.jsonl:2", "nested too deep");
  EXPECT_EQ(GetErrorInfo(DraftScript::Load("nowhere.jsonl").status())->reason, "MISSING_FILE");
}

}  // namespace
}  // namespace mirrorsd::scripts
