// Tokenizer, chat template and decoding of every golden folder against the reference's own outputs
// (expected.json): ids with and without special tokens, texts, rendered chats or the template's own
// error, and the greedy continuations, whole and token by token.

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/text/chat_template.h"
#include "services/text/generation_config.h"
#include "services/text/incremental_decoder.h"
#include "services/text/tokenizer.h"
#include "services/text/utf8.h"

namespace mirrorsd::text {
namespace {

using Json = nlohmann::ordered_json;  // templates print keys in the order they came in
using Ids = std::vector<TokenId>;

class TextGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    folder_ = "tests/golden/" + GetParam();
    std::ifstream file(folder_ + "/expected.json");
    ASSERT_TRUE(file) << folder_ << ": run from the source tree's root";
    expected_ = Json::parse(file);
    absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::Load(folder_);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
  }

  // All pieces of an incremental decode, each checked to be whole characters.
  std::string DecodeByToken(const Ids& ids, bool skip_special_tokens) {
    IncrementalDecoder decoder(tokenizer_, skip_special_tokens);
    std::string text;
    for (const TokenId id : ids) {
      const std::string piece = decoder.Feed(id);
      EXPECT_TRUE(IsValidUtf8(piece)) << "token " << id;
      text += piece;
    }
    return text + decoder.Flush();
  }

  std::string folder_;
  Json expected_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(TextGolden, EncodesAndDecodesAsTheReference) {
  ASSERT_FALSE(expected_["tokenizer"].empty());
  for (const Json& item : expected_["tokenizer"]) {
    const std::string text = item["text"];
    SCOPED_TRACE(text);
    const Ids ids = item["ids"];
    const Ids ids_no_special = item["ids_no_special"];
    const auto with = tokenizer_->Encode(text, true);
    const auto without = tokenizer_->Encode(text, false);
    ASSERT_TRUE(with.ok() && without.ok()) << with.status() << without.status();
    EXPECT_EQ(*with, ids);
    EXPECT_EQ(*without, ids_no_special);
    const auto decoded = tokenizer_->Decode(ids_no_special, false);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, item["decoded"].get<std::string>());
    EXPECT_EQ(DecodeByToken(ids_no_special, false), *decoded);
  }
}

TEST_P(TextGolden, ContinuationsReadAsTheReference) {
  ASSERT_FALSE(expected_["prompts"].empty());
  for (const Json& prompt : expected_["prompts"]) {
    if (prompt["text"].is_string()) {
      const auto ids = tokenizer_->Encode(prompt["text"].get<std::string>(), true);
      ASSERT_TRUE(ids.ok()) << ids.status();
      EXPECT_EQ(*ids, prompt["ids"].get<Ids>());
    }
    const Ids greedy = prompt["greedy_ids"];
    for (const auto& [skip, key] : {std::pair(false, "greedy_text"),
                                    std::pair(true, "greedy_text_no_special")}) {
      const std::string text = prompt[key];
      const auto decoded = tokenizer_->Decode(greedy, skip);
      ASSERT_TRUE(decoded.ok()) << decoded.status();
      EXPECT_EQ(*decoded, text);
      EXPECT_EQ(DecodeByToken(greedy, skip), text);
    }
  }
}

TEST_P(TextGolden, RendersChatsAsTheReference) {
  const auto chat_template = ChatTemplate::Load(folder_);
  if (expected_["chat"].empty()) {
    EXPECT_EQ(chat_template.status().code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(chat_template.status().message()),
                testing::HasSubstr(folder_ + "/chat_template.jinja: not found"));
    return;
  }
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  for (const Json& chat : expected_["chat"]) {
    ChatInput input;
    input.messages_json = chat["messages"].dump();
    if (!chat["tools"].is_null()) input.tools_json = chat["tools"].dump();
    input.add_generation_prompt = chat["add_generation_prompt"];
    SCOPED_TRACE(chat.dump());
    const absl::StatusOr<std::string> text = (*chat_template)->Render(input);
    if (chat.contains("error")) {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(std::string(text.status().message()),
                "messages: " + chat["error"].get<std::string>());
      EXPECT_EQ(GetErrorInfo(text.status())->field, "messages");
    } else {
      ASSERT_TRUE(text.ok()) << text.status();
      EXPECT_EQ(*text, chat["text"].get<std::string>());
    }
  }
}

TEST_P(TextGolden, GenerationDefaultsAreRead) {
  const absl::StatusOr<GenerationConfig> config = LoadGenerationConfig(folder_);
  ASSERT_TRUE(config.ok()) << config.status();
  std::ifstream file(folder_ + "/generation_config.json");
  const Json stated = Json::parse(file);
  const Json& end = stated["eos_token_id"];
  EXPECT_EQ(config->end_token_ids, end.is_array() ? end.get<Ids>() : Ids{end.get<TokenId>()});
  EXPECT_EQ(config->temperature, stated["temperature"].get<float>());
  EXPECT_EQ(config->top_p, stated["top_p"].get<float>());
  EXPECT_FALSE(config->top_k.has_value());
  for (const TokenId id : config->end_token_ids) EXPECT_TRUE(tokenizer_->IsSpecial(id)) << id;
}

INSTANTIATE_TEST_SUITE_P(
    Folders, TextGolden,
    testing::Values("llama3-gqa-tied-bf16", "llama2-mha-f32", "llama-sharded-f16-headdim",
                    "mistral-window-bf16", "qwen2-bias-f32", "qwen3-qknorm-bf16", "opt-relu-f32"),
    [](const testing::TestParamInfo<std::string>& info) {
      std::string name = info.param;
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

}  // namespace
}  // namespace mirrorsd::text
