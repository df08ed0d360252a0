#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/bench/rounds/run.h"

namespace mirrorsd::bench {
namespace {

using ::testing::HasSubstr;

const Prompt kPrompt{"17", "story", "Once"};

TEST(TokenLedger, EqualTokensAreCompared) {
  TokenLedger ledger;
  EXPECT_TRUE(ledger.Compare(kPrompt, 0, 0, "off", {1, 2, 3}).ok());
  EXPECT_EQ(ledger.num_compared(), 0);
  EXPECT_TRUE(ledger.Compare(kPrompt, 0, 0, "serial 4", {1, 2, 3}).ok());
  EXPECT_EQ(ledger.num_compared(), 1);
}

TEST(TokenLedger, ADifferenceIsNamed) {
  TokenLedger ledger;
  ASSERT_TRUE(ledger.Compare(kPrompt, 1, 2, "off", {1, 2, 3}).ok());
  const absl::Status status = ledger.Compare(kPrompt, 1, 2, "serial 4", {1, 9, 3});
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  for (const char* part : {"TOKENS DIFFER", "prompt 17", "temperature 1", "sample 2", "position 1",
                           "'off' has token 2", "'serial 4' has token 9"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST(TokenLedger, AMissingOrAFurtherTokenIsADifference) {
  TokenLedger ledger;
  ASSERT_TRUE(ledger.Compare(kPrompt, 0, 0, "off", {1, 2}).ok());
  EXPECT_THAT(std::string(ledger.Compare(kPrompt, 0, 0, "serial 4", {1}).message()), HasSubstr("has nothing"));
  EXPECT_FALSE(ledger.Compare(kPrompt, 0, 0, "serial 4", {1, 2, 3}).ok());
}

TEST(TokenLedger, SamplesTemperaturesAndPromptsAreApart) {
  TokenLedger ledger;
  ASSERT_TRUE(ledger.Compare(kPrompt, 1, 0, "off", {1}).ok());
  EXPECT_TRUE(ledger.Compare(kPrompt, 1, 1, "off", {2}).ok());
  EXPECT_TRUE(ledger.Compare(kPrompt, 0, 0, "off", {3}).ok());
  EXPECT_TRUE(ledger.Compare({"18", "story", "Once"}, 1, 0, "off", {4}).ok());
  EXPECT_EQ(ledger.num_compared(), 0);
}

}  // namespace
}  // namespace mirrorsd::bench
