// All pieces together are the whole decode, for tokens that no model would say: every golden
// tokenizer and small ones of the rarer decoders, over random ids.

#include "services/text/incremental_decoder.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "services/text/utf8.h"

namespace mirrorsd::text {
namespace {

using Ids = std::vector<TokenId>;

std::shared_ptr<const Tokenizer> Golden(const std::string& name) {
  return Tokenizer::Load("tests/golden/" + name).value();
}

// A vocabulary of words, put together by `decoder` (a JSON value).
std::shared_ptr<const Tokenizer> Words(const std::string& decoder) {
  const std::string json =
      R"({"version": "1.0", "added_tokens": [{"id": 9, "content": "<s>", "special": true,
          "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
          "decoder": )" +
      decoder + R"(, "model": {"type": "WordLevel", "unk_token": "a", "vocab": {
          "a": 0, "▁b": 1, "##c": 2, "d</w>": 3, "é▁": 4, "�": 5, "▁": 6, ".": 7, "<0x41>": 8}}})";
  return Tokenizer::Parse(json).value();
}

void ExpectSame(const std::shared_ptr<const Tokenizer>& tokenizer, const Ids& ids, bool skip) {
  IncrementalDecoder decoder(tokenizer, skip);
  for (int round = 0; round < 2; ++round) {  // the second time after Flush: a new text
    std::string text;
    for (const TokenId id : ids) {
      const std::string piece = decoder.Feed(id);
      ASSERT_TRUE(IsValidUtf8(piece)) << testing::PrintToString(ids);
      text += piece;
    }
    text += decoder.Flush();
    ASSERT_EQ(text, tokenizer->Decode(ids, skip).value()) << testing::PrintToString(ids);
  }
}

void TryRandomIds(const std::shared_ptr<const Tokenizer>& tokenizer, int num_sequences) {
  std::mt19937 random(7);
  std::vector<TokenId> single_bytes = {0};
  for (TokenId id = 0; id < tokenizer->vocabulary_size(); ++id) {
    if (tokenizer->TokenBytes(id).size() == 1) single_bytes.push_back(id);
  }
  for (int i = 0; i < num_sequences; ++i) {
    Ids ids(random() % 40);
    const uint32_t bytes_in_8 = random() % 9;  // from words only to broken UTF-8 only
    for (TokenId& id : ids) {
      id = random() % 8 < bytes_in_8 ? single_bytes[random() % single_bytes.size()]
                                     : random() % (tokenizer->vocabulary_size() + 3);
    }
    ExpectSame(tokenizer, ids, i % 2 == 0);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(IncrementalDecoder, EqualsTheWholeDecodeByteLevel) {
  TryRandomIds(Golden("llama3-gqa-tied-bf16"), 3000);
  TryRandomIds(Golden("qwen2-bias-f32"), 1000);
}

TEST(IncrementalDecoder, EqualsTheWholeDecodeByteFallback) {
  TryRandomIds(Golden("llama2-mha-f32"), 3000);
  TryRandomIds(Golden("mistral-window-bf16"), 1000);
}

TEST(IncrementalDecoder, EqualsTheWholeDecodeOfRarerDecoders) {
  for (const char* decoder :
       {"null", R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})",
        R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true})",
        R"({"type": "WordPiece", "prefix": "##", "cleanup": true})",
        R"({"type": "BPEDecoder", "suffix": "</w>"})",
        R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]})",
        R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "[b▁]+"}, "content": "_"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 2, "stop": 0}]})"}) {
    SCOPED_TRACE(decoder);
    TryRandomIds(Words(decoder), 1000);
  }
}

// Every run of three byte tokens: the reference turns a broken run into one mark per byte, whole.
TEST(IncrementalDecoder, RunsOfByteTokens) {
  const auto tokenizer = Golden("llama2-mha-f32");
  const auto byte_token = [](uint8_t byte) { return TokenId{3 + byte}; };  // <0x00> has id 3
  const uint8_t interesting[] = {0x20, 0x41, 0x80, 0xA0, 0xBF, 0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0xFF};
  for (const uint8_t a : interesting) {
    for (const uint8_t b : interesting) {
      for (const uint8_t c : interesting) {
        ExpectSame(tokenizer, {byte_token(a), byte_token(b), byte_token(c)}, true);
        ExpectSame(tokenizer, {byte_token(a), 1, byte_token(b), 544, byte_token(c), 332}, true);
        ExpectSame(tokenizer, {byte_token(a), 1, byte_token(b), 544, byte_token(c), 332}, false);
      }
    }
  }
}

TEST(IncrementalDecoder, TextComesAsSoonAsItIsFinal) {
  const auto tokenizer = Golden("llama3-gqa-tied-bf16");
  const Ids ids = *tokenizer->Encode("a \U0001F642!", false);
  IncrementalDecoder decoder(tokenizer, true);
  std::string seen;
  std::string bytes;
  for (const TokenId id : ids) {
    bytes += tokenizer->TokenBytes(id);
    seen += decoder.Feed(id);
    EXPECT_EQ(seen, bytes.substr(0, ValidUtf8Prefix(bytes)));
  }
  EXPECT_EQ(decoder.Flush(), "");
  EXPECT_EQ(seen, "a \U0001F642!");

  const auto byte_fallback = Golden("llama2-mha-f32");
  IncrementalDecoder words(byte_fallback, true);
  EXPECT_EQ(words.Feed(332), "");              // one leading space of the whole text is dropped,
  EXPECT_EQ(words.Feed(544), " The quiet ");   // and only one
  EXPECT_EQ(words.Feed(3 + 0xC3), "");         // a run begins
  EXPECT_EQ(words.Feed(3 + 0xA9), "");         // good so far, but it may go on and break
  EXPECT_EQ(words.Feed(332), "\u00e9 ");       // it ended well
  EXPECT_EQ(words.Feed(3 + 0xC3), "");
  EXPECT_EQ(words.Feed(3 + 0xC3), "\uFFFD\uFFFD");  // broken beyond repair: no reason to wait
  EXPECT_EQ(words.Feed(3 + 0x41), "\uFFFD");
  EXPECT_EQ(words.Flush(), "");
}

}  // namespace
}  // namespace mirrorsd::text
