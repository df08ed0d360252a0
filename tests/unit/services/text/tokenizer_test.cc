#include "services/text/tokenizer.h"

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_replace.h"
#include "common/error.h"
#include "common/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/text/model_file.h"
#include "tests/unit/services/text/temporary_folder.h"

namespace mirrorsd::text {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

const char kLlama3[] = "tests/golden/llama3-gqa-tied-bf16";
const char kLlama2[] = "tests/golden/llama2-mha-f32";

std::shared_ptr<const Tokenizer> MustLoad(const std::string& folder) {
  auto tokenizer = Tokenizer::Load(folder);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.value_or(nullptr);
}

std::string ReadTokenizerJson(const std::string& folder) {
  return ReadModelFile(folder, "tokenizer.json", kMaxTokenizerFileBytes, "").value();
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(Tokenizer, AFolderThatLacksThePieceSaysSo) {
  const TemporaryFolder folder;
  const auto missing = Tokenizer::Load(folder.path());
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()),
              StartsWith(folder.path() + "/tokenizer.json: not found; a Hugging Face model folder needs"));
  EXPECT_EQ(GetErrorInfo(missing.status())->reason, "MISSING_FILE");
  EXPECT_EQ(GetErrorInfo(missing.status())->field, folder.path() + "/tokenizer.json");

  const auto nowhere = Tokenizer::Load(folder.path() + "/nowhere");
  EXPECT_EQ(Message(nowhere.status()), folder.path() + "/nowhere: no such model folder");
  const auto file = Tokenizer::Load(std::string(kLlama3) + "/config.json");
  EXPECT_THAT(Message(file.status()), HasSubstr("not a folder"));
}

TEST(Tokenizer, ABrokenFileIsNamed) {
  for (const std::string& content :
       {std::string(), std::string("{"), std::string("[]"), std::string("{\"model\": 1}"),
        std::string("{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": \"b\"}}}"),
        std::string("\xFF\xFE{}"), ReadTokenizerJson(kLlama3).substr(0, 20000)}) {
    const TemporaryFolder folder(TemporaryFolder::Files{{"tokenizer.json", content}});
    const auto tokenizer = Tokenizer::Load(folder.path());
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << tokenizer.status();
    EXPECT_THAT(Message(tokenizer.status()), StartsWith(folder.path() + "/tokenizer.json: "));
    EXPECT_EQ(GetErrorInfo(tokenizer.status())->reason, "BAD_FILE");
  }
}

// tokenizers loads this file and panics on every text.
TEST(Tokenizer, AFileThatFailsOnEveryTextIsRefusedAtOnce) {
  Json json = Json::parse(ReadTokenizerJson(kLlama2));
  json["post_processor"]["special_tokens"] = Json::object();
  const auto tokenizer = Tokenizer::Parse(json.dump(), "t.json");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorInfo(tokenizer.status())->field, "t.json");
}

TEST(Tokenizer, AbsurdIdsAreRefused) {
  const auto tokenizer = Tokenizer::Parse(
      R"({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 4000000000}, "unk_token": "a"}})");
  EXPECT_THAT(Message(tokenizer.status()), HasSubstr("token id 4000000000 is above 16777216"));
}

TEST(Tokenizer, TextThatIsNotUtf8NamesTheField) {
  const auto tokenizer = MustLoad(kLlama3);
  const auto ids = tokenizer->Encode("good \xC3\x28", true, "prompt");
  EXPECT_EQ(Message(ids.status()), "prompt: not UTF-8 at byte 5");
  EXPECT_EQ(GetErrorInfo(ids.status())->field, "prompt");
  const auto long_text = tokenizer->Encode(std::string(kMaxTextBytes + 1, 'a'), true, "prompt");
  EXPECT_EQ(Message(long_text.status()),
            "prompt: has 16777217 bytes (limit: 16777216 bytes)");
}

TEST(Tokenizer, ZeroBytesAreText) {
  const auto tokenizer = MustLoad(kLlama3);
  const std::string text("a\0b", 3);
  const auto ids = tokenizer->Encode(text, false);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(*tokenizer->Decode(*ids, false), text);
}

TEST(Tokenizer, IdsThatCannotBeAreRefusedAndUnknownOnesSilent) {
  const auto tokenizer = MustLoad(kLlama3);
  const std::vector<TokenId> negative = {1, -7};
  EXPECT_EQ(Message(tokenizer->Decode(negative, false).status()),
            "token_ids[1]: -7 is negative (limit: 0 to 634)");
  const std::vector<TokenId> padded = {275, 900000, 462};
  EXPECT_EQ(*tokenizer->Decode(padded, false), *tokenizer->Decode(std::vector<TokenId>{275, 462}, false));
  EXPECT_FALSE(tokenizer->Contains(-1));
  EXPECT_FALSE(tokenizer->Contains(tokenizer->vocabulary_size()));
  EXPECT_TRUE(tokenizer->Contains(tokenizer->vocabulary_size() - 1));
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
}

TEST(Tokenizer, TokensAreTheirBytes) {
  const auto llama3 = MustLoad(kLlama3);
  EXPECT_EQ(llama3->TokenBytes(0), "<|begin_of_text|>");
  EXPECT_TRUE(llama3->IsSpecial(0));
  EXPECT_FALSE(llama3->IsSpecial(275));
  EXPECT_EQ(llama3->FindSpecialToken("<|eot_id|>"), 2);
  EXPECT_EQ(llama3->FindSpecialToken("river"), std::nullopt);
  // All ids one after another have the bytes of all tokens: the whole alphabet is among them.
  bool seen[256] = {};
  for (TokenId id = 0; id < llama3->vocabulary_size(); ++id) {
    if (llama3->TokenBytes(id).size() == 1) seen[static_cast<uint8_t>(llama3->TokenBytes(id)[0])] = true;
  }
  for (int byte = 0; byte < 256; ++byte) EXPECT_TRUE(seen[byte]) << byte;
  const auto llama2 = MustLoad(kLlama2);
  EXPECT_EQ(llama2->TokenBytes(3), std::string(1, '\0'));  // <0x00>
  EXPECT_EQ(llama2->TokenBytes(258), "\xFF");              // <0xFF>
  EXPECT_EQ(llama2->TokenBytes(332), " ");                 // the metaspace
}

// The fingerprint is what its comment says, by another way: nlohmann reads the file, GPT-2's table
// maps the characters.
TEST(Tokenizer, FingerprintIsOverSortedTokens) {
  const Json json = Json::parse(ReadTokenizerJson(kLlama2));
  std::map<uint32_t, std::pair<std::string, bool>> tokens;
  for (const auto& [token, id] : json["model"]["vocab"].items()) {
    std::string bytes = token;
    if (token.size() == 6 && token.rfind("<0x", 0) == 0) {
      bytes = std::string(1, static_cast<char>(std::stoi(token.substr(3, 2), nullptr, 16)));
    }
    bytes = absl::StrReplaceAll(bytes, {{"\u2581", " "}});
    tokens[id] = {bytes, false};
  }
  for (const Json& added : json["added_tokens"]) {
    tokens[added["id"]] = {added["content"], added["special"]};
  }
  std::string stream;
  const auto append_u32 = [&stream](uint32_t value) {
    for (int i = 0; i < 4; ++i) stream.push_back(static_cast<char>(value >> (8 * i)));
  };
  for (const auto& [id, token] : tokens) {
    append_u32(id);
    stream.push_back(token.second ? 1 : 0);
    append_u32(static_cast<uint32_t>(token.first.size()));
    stream += token.first;
  }
  EXPECT_EQ(MustLoad(kLlama2)->VocabularyFingerprint(), Sha256Hex(stream));
}

TEST(Tokenizer, FingerprintSeesEveryChangeOfTheVocabularyOnly) {
  const std::string original = ReadTokenizerJson(kLlama3);
  const std::string fingerprint = Tokenizer::Parse(original).value()->VocabularyFingerprint();
  Json json = Json::parse(original);
  EXPECT_EQ(Tokenizer::Parse(json.dump()).value()->VocabularyFingerprint(), fingerprint);
  json["truncation"] = {{"direction", "Right"}, {"max_length", 3}, {"strategy", "LongestFirst"}, {"stride", 0}};
  const auto truncating = Tokenizer::Parse(json.dump()).value();
  EXPECT_EQ(truncating->VocabularyFingerprint(), fingerprint);
  EXPECT_EQ(truncating->Encode("The quiet river The quiet river", false)->size(), 7u);
  Json special = Json::parse(original);
  special["added_tokens"][5]["special"] = false;
  EXPECT_NE(Tokenizer::Parse(special.dump()).value()->VocabularyFingerprint(), fingerprint);
  Json renamed = Json::parse(original);
  renamed["added_tokens"][5]["content"] = "<pad2>";
  EXPECT_NE(Tokenizer::Parse(renamed.dump()).value()->VocabularyFingerprint(), fingerprint);
  EXPECT_EQ(MustLoad(kLlama3)->VocabularyFingerprint(), fingerprint);
  EXPECT_NE(MustLoad(kLlama2)->VocabularyFingerprint(), fingerprint);
}

TEST(Tokenizer, Qwen2RulesHoldForQwen2Only) {
  const std::string json = ReadTokenizerJson("tests/golden/qwen2-bias-f32");
  const auto digits_of = [&json](const std::string& config, const std::string& tokenizer_config) {
    const TemporaryFolder folder({{"tokenizer.json", json},
                                  {"config.json", config},
                                  {"tokenizer_config.json", tokenizer_config}});
    return Tokenizer::Load(folder.path()).value()->Encode("12", false)->size();
  };
  EXPECT_EQ(digits_of(R"({"model_type": "qwen2"})", "{}"), 2u);
  EXPECT_EQ(digits_of(R"({"model_type": "qwen2"})", R"({"tokenizer_class": "Qwen2Tokenizer"})"), 2u);
  EXPECT_EQ(digits_of(R"({"model_type": "qwen2"})", R"({"tokenizer_class": "LlamaTokenizerFast"})"), 1u);
  EXPECT_EQ(digits_of(R"({"model_type": "qwen3"})", "{}"), 1u);
}

TEST(Tokenizer, ManyThreadsShareOne) {
  const auto tokenizer = MustLoad(kLlama3);
  const auto expected = *tokenizer->Encode("The quiet river 12345", true);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        wrong[t] += *tokenizer->Encode("The quiet river 12345", true) != expected;
        wrong[t] += *tokenizer->Decode(expected, true) != "The quiet river 12345";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace mirrorsd::text
