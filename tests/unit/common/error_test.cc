#include "common/error.h"

#include <atomic>
#include <chrono>
#include <thread>

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
        const LastWords earlier([] { fprintf(stderr, "words"); });
        const LastWords later([] { fprintf(stderr, "last "); });
        { const LastWords gone([] { fprintf(stderr, "not "); }); }
        CHECK_EQ(1, 2) << "one is " << 1;
      },
      "CHECK failed: \\(1\\) == \\(2\\) one is 1\nlast words");
}

TEST(CheckDeathTest, FailingWithinTheLastWordsAborts) {
  EXPECT_DEATH(
      {
        const LastWords words([] { CHECK(false) << "second"; });
        CHECK(false) << "first";
      },
      "first\n.*second");
}

TEST(CheckDeathTest, LastWordsAreSaidOnceHoweverManyThreadsFail) {
  EXPECT_DEATH(
      {
        std::atomic<int> times{0};
        const LastWords words([&times] {
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
          fprintf(stderr, "said %d times.", ++times);
        });
        std::thread other([] { CHECK(false) << "other"; });
        CHECK(false) << "own";
        other.join();
      },
      "said 1 times.$");
}

}  // namespace
}  // namespace mirrorsd
