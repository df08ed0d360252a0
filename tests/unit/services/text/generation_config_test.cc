#include "services/text/generation_config.h"

#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/services/text/temporary_folder.h"

namespace mirrorsd::text {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(GenerationConfig, ReadsWhatIsStated) {
  const auto config = ParseGenerationConfig(
      R"({"bos_token_id": 1, "eos_token_id": [2, 7, 2], "do_sample": true, "temperature": 0.7, "top_k": 20,
          "top_p": 1, "min_p": 0.05, "repetition_penalty": 1.1, "max_new_tokens": 256,
          "transformers_version": "5.23.0", "pad_token_id": null})",
      "g");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->end_token_ids, ElementsAre(2, 7));
  EXPECT_EQ(config->begin_token_id, 1);
  EXPECT_EQ(config->temperature, 0.7f);
  EXPECT_EQ(config->top_k, 20);
  EXPECT_EQ(config->top_p, 1.0f);
  EXPECT_EQ(config->min_p, 0.05f);
  EXPECT_EQ(config->repetition_penalty, 1.1f);
  EXPECT_EQ(config->max_new_tokens, 256);
}

TEST(GenerationConfig, WhatIsNotStatedStaysUnset) {
  const auto config = ParseGenerationConfig(R"({"eos_token_id": null, "top_p": null})", "g");
  ASSERT_TRUE(config.ok());
  EXPECT_THAT(config->end_token_ids, IsEmpty());
  EXPECT_FALSE(config->begin_token_id || config->temperature || config->top_k || config->top_p ||
               config->min_p || config->repetition_penalty || config->max_new_tokens);
}

TEST(GenerationConfig, GreedyOnlyWhereItIsStated) {
  EXPECT_EQ(ParseGenerationConfig(R"({"do_sample": false, "temperature": 0.6})", "g")->temperature, 0.0f);
  EXPECT_EQ(ParseGenerationConfig(R"({"do_sample": false})", "g")->temperature, 0.0f);
  EXPECT_EQ(ParseGenerationConfig(R"({"temperature": 0.6})", "g")->temperature, 0.6f);
  EXPECT_EQ(ParseGenerationConfig(R"({"do_sample": true})", "g")->temperature, std::nullopt);
  EXPECT_EQ(ParseGenerationConfig(R"({"top_k": -1})", "g")->top_k, 0);
}

TEST(GenerationConfig, WhatIsWrongIsNamed) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"temperature": -1})", "f.json: temperature is -1 (limit: 0 to 100)"},
      {R"({"temperature": "warm"})", "f.json: temperature is \"warm\" (limit: 0 to 100)"},
      {R"({"top_p": 0})", "f.json: top_p is 0 (limit: above 0, at most 1)"},
      {R"({"top_p": 1.5})", "f.json: top_p is 1.5 (limit: above 0, at most 1)"},
      {R"({"min_p": 2})", "f.json: min_p is 2 (limit: 0 to 1)"},
      {R"({"top_k": 2.5})", "f.json: top_k is 2.5 (limit: an integer, -1 to 2147483647)"},
      {R"({"eos_token_id": -3})", "f.json: eos_token_id is -3 (limit: an integer, 0 to 16777216)"},
      {R"({"eos_token_id": [1, "x"]})",
       "f.json: eos_token_id is \"x\" (limit: an integer, 0 to 16777216)"},
      {R"({"eos_token_id": 18446744073709551615})",
       "f.json: eos_token_id is 18446744073709551615 (limit: an integer, 0 to 16777216)"},
      {R"({"repetition_penalty": 0})",
       "f.json: repetition_penalty is 0 (limit: above 0, at most 100)"},
      {R"({"do_sample": "no"})", "f.json: do_sample is \"no\" (limit: true or false)"},
      {"[]", "f.json: must be a JSON object"},
  };
  for (const auto& [json, message] : cases) {
    const auto config = ParseGenerationConfig(json, "f.json");
    EXPECT_EQ(std::string(config.status().message()), message);
    EXPECT_EQ(GetErrorInfo(config.status())->field, "f.json");
  }
  EXPECT_THAT(std::string(ParseGenerationConfig("{", "f.json").status().message()),
              testing::StartsWith("f.json: not JSON: "));
}

// What passes here must pass at the scheduler: numbers as floats, and no more end tokens than a request carries.
TEST(GenerationConfig, WhatARequestCannotCarryIsWrongInTheFile) {
  for (const char* json : {R"({"top_p": 1e-60})", R"({"repetition_penalty": 1e-60})",
                           R"({"temperature": 1e300})"}) {
    EXPECT_EQ(GetErrorInfo(ParseGenerationConfig(json, "f.json").status())->reason, "BAD_FILE")
        << json;
  }
  std::string ids = "0";
  for (int i = 1; i < 256; ++i) ids += "," + std::to_string(i);
  EXPECT_TRUE(ParseGenerationConfig("{\"eos_token_id\": [" + ids + "]}", "f.json").ok());
  const auto refused = ParseGenerationConfig("{\"eos_token_id\": [" + ids + ",256]}", "f.json");
  EXPECT_EQ(GetErrorInfo(refused.status())->limit, "256 ids");
}

TEST(GenerationConfig, EndTokensMayStandInTheModelsConfig) {
  TemporaryFolder folder;
  EXPECT_THAT(LoadGenerationConfig(folder.path())->end_token_ids, IsEmpty());
  folder.Write("config.json", R"({"eos_token_id": 5, "bos_token_id": 4, "temperature": 0.1})");
  const auto from_model = LoadGenerationConfig(folder.path());
  EXPECT_THAT(from_model->end_token_ids, ElementsAre(5));
  EXPECT_EQ(from_model->begin_token_id, 4);
  EXPECT_EQ(from_model->temperature, std::nullopt);
  folder.Write("generation_config.json", R"({"eos_token_id": [6, 5]})");
  const auto both = LoadGenerationConfig(folder.path());
  EXPECT_THAT(both->end_token_ids, ElementsAre(6, 5));
  EXPECT_EQ(both->begin_token_id, 4);
  folder.Write("generation_config.json", "nonsense");
  EXPECT_EQ(GetErrorInfo(LoadGenerationConfig(folder.path()).status())->field,
            folder.path() + "/generation_config.json");
}

}  // namespace
}  // namespace mirrorsd::text
