#include "common/error.h"

#include "common/check.h"
#include "gtest/gtest.h"

namespace mirrorsd {
namespace {

TEST(ErrorTest, InvalidFieldNamesFieldAndLimit) {
  const absl::Status status = InvalidField("max_tokens", "0 is too small", "1 to 1024");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "max_tokens: 0 is too small (limit: 1 to 1024)");
  EXPECT_EQ(GetErrorInfo(status), (ErrorInfo{"INVALID_FIELD", "max_tokens", "1 to 1024", false}));
}

TEST(ErrorTest, OverloadAndLossAreRetryable) {
  EXPECT_TRUE(GetErrorInfo(Overloaded("QUEUE_FULL", "busy", "8"))->retryable);
  EXPECT_TRUE(GetErrorInfo(Unavailable("VERIFIER_LOST", "gone"))->retryable);
  EXPECT_FALSE(GetErrorInfo(BadFile("a/config.json", "not JSON"))->retryable);
}

TEST(ErrorTest, AStatusOfSomebodyElseHasNoInfo) {
  EXPECT_FALSE(GetErrorInfo(absl::InternalError("x")).has_value());
  EXPECT_FALSE(GetErrorInfo(absl::OkStatus()).has_value());
}

TEST(ErrorTest, AnySeparatorInTheTextIsHarmless) {
  const absl::Status status = InvalidField("stop[0]", "has a \x1f byte", "a\x1f" "b");
  // Four parts or none: a limit that holds the separator must not shift the others.
  const auto info = GetErrorInfo(status);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->field, "stop[0]");
  EXPECT_FALSE(info->retryable);
}

TEST(CheckDeathTest, PrintsConditionMessageAndLastWords) {
  EXPECT_DEATH(
      {
        SetCheckFailureHandler([] { fprintf(stderr, "last words"); });
        CHECK_EQ(1, 2) << "one is " << 1;
      },
      "CHECK failed: \\(1\\) == \\(2\\) one is 1\nlast words");
}

}  // namespace
}  // namespace mirrorsd
