#include "services/gateway/output_text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mirrorsd::gateway {
namespace {

constexpr char kModel[] = "tests/golden/llama3-gqa-tied-bf16";

std::shared_ptr<const text::Tokenizer> LoadTokenizer() {
  auto tokenizer = text::Tokenizer::Load(kModel);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *tokenizer;
}

std::vector<TokenId> Encode(const std::string& text) {
  auto ids = LoadTokenizer()->Encode(text, /*add_special_tokens=*/false);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return *ids;
}

TEST(OutputTextTest, DeliversEveryTokenAndTheWholeText) {
  const std::string text = "a 朝 and a 👋 of it";
  const std::vector<TokenId> ids = Encode(text);
  OutputText output(LoadTokenizer(), true, {});
  std::string got;
  for (const TokenId id : ids) got += output.Take({&id, 1}).text;
  got += output.Finish();
  EXPECT_EQ(got, text);
  EXPECT_EQ(output.num_delivered(), static_cast<int32_t>(ids.size()));
  EXPECT_FALSE(output.stopped());
}

// However the committed tokens come in messages, what is delivered is the same.
TEST(OutputTextTest, StopsAtTheTokenThatCompletesTheStopStringInAnyCut) {
  const std::vector<TokenId> ids = Encode("one two three four five");
  for (size_t cut = 1; cut <= ids.size(); ++cut) {
    OutputText output(LoadTokenizer(), true, {"ee f"});
    std::string got;
    std::vector<TokenId> delivered;
    for (size_t begin = 0; begin < ids.size(); begin += cut) {
      const size_t count = std::min(cut, ids.size() - begin);
      const OutputText::Delivery delivery = output.Take({ids.data() + begin, count});
      got += delivery.text;
      delivered.insert(delivered.end(), delivery.token_ids.begin(), delivery.token_ids.end());
    }
    EXPECT_TRUE(output.stopped());
    EXPECT_EQ(got + output.Finish(), "one two thr") << cut;
    EXPECT_EQ(output.num_delivered(), static_cast<int32_t>(delivered.size()));
    EXPECT_LT(delivered.size(), ids.size());
    auto text = LoadTokenizer()->Decode(delivered, true);
    EXPECT_NE(text->find("ee f"), std::string::npos) << "the completing token is delivered";
    delivered.pop_back();
    EXPECT_EQ(LoadTokenizer()->Decode(delivered, true)->find("ee f"), std::string::npos);
  }
}

TEST(OutputTextTest, WhatWasHeldBackForAStopStringComesAtTheEnd) {
  const std::vector<TokenId> ids = Encode("wait for it");
  OutputText output(LoadTokenizer(), true, {"it never comes"});
  std::string got = output.Take(ids).text;
  EXPECT_EQ(got, "wait for ");
  EXPECT_EQ(got + output.Finish(), "wait for it");
}

}  // namespace
}  // namespace mirrorsd::gateway
