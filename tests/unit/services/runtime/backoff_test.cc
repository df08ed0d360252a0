#include "services/runtime/backoff.h"

#include <cstdint>

#include "gtest/gtest.h"
#include "services/runtime/clock.h"

namespace mirrorsd::runtime {
namespace {

const BackoffOptions kOptions{.first = absl::Milliseconds(100), .most = absl::Milliseconds(500)};

TEST(BackoffTest, DoublesToTheMostWithTheLeastJitter) {
  Backoff backoff(kOptions, [] { return uint64_t{0}; });
  for (int expected_ms : {50, 100, 200, 250, 250}) {
    EXPECT_EQ(backoff.Next(), absl::Milliseconds(expected_ms));
  }
  backoff.Reset();
  EXPECT_EQ(backoff.Next(), absl::Milliseconds(50));
}

TEST(BackoffTest, JitterStaysWithinTheUpperHalfOfTheStep) {
  uint64_t state = 1;
  Backoff backoff(kOptions, [&] { return state = state * 6364136223846793005u + 1442695040888963407u; });
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const absl::Duration wait = backoff.Next();
    if (i < 3) continue;
    EXPECT_GE(wait, absl::Milliseconds(250));
    EXPECT_LE(wait, absl::Milliseconds(500));
    differs = differs || wait != absl::Milliseconds(250);
  }
  EXPECT_TRUE(differs);
}

TEST(BackoffTest, MostJitterIsTheWholeStep) {
  Backoff backoff(kOptions, [] { return ~uint64_t{0}; });
  const absl::Duration wait = backoff.Next();
  EXPECT_GT(wait, absl::Milliseconds(99));
  EXPECT_LE(wait, absl::Milliseconds(100));
}

TEST(ClockTest, IsMonotonicAndTheBootHasOneName) {
  const int64_t first = MonotonicNanos();
  EXPECT_GE(MonotonicNow(), absl::FromUnixNanos(first));
  EXPECT_FALSE(BootId().empty());
  EXPECT_EQ(BootId(), BootId());
}

}  // namespace
}  // namespace mirrorsd::runtime
