#include "scheduler/policy/latency_law.h"

#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

constexpr absl::Duration Ms(int64_t ms) { return absl::Milliseconds(ms); }

// A target of 20 ms, cut in the middle, an exit head of 1 ms, a draft of 2 ms a depth.
RoundPhases Phases(int32_t depth) {
  RoundPhases phases;
  phases.prefix = Ms(9);
  phases.exit_head = Ms(1);
  phases.suffix = Ms(11);
  phases.relay = Ms(1);
  phases.p1_residual = Ms(1);
  phases.used_depth = depth * Ms(2);
  phases.done = Ms(1);
  return phases;
}

TEST(LatencyLaw, PlainIsThePassAndTheWayBack) { EXPECT_EQ(PlainRound(Phases(4)), Ms(21)); }

TEST(LatencyLaw, SerialDraftsBetweenTwoPasses) {
  EXPECT_EQ(SerialRound(Phases(0)), Ms(22));
  EXPECT_EQ(SerialRound(Phases(4)), Ms(30));
}

TEST(LatencyLaw, MirrorHidesWhatFitsBesideTheSuffix) {
  EXPECT_EQ(MirrorRound(Phases(4)), Ms(22));  // 1 + 1 + 8 <= 11
  EXPECT_EQ(MirrorRound(Phases(5)), Ms(23));  // 12: one more
  EXPECT_EQ(MirrorRound(Phases(8)), Ms(29));
  RoundPhases held = Phases(4);
  held.hold = Ms(3);
  EXPECT_EQ(MirrorRound(held), Ms(25));
}

TEST(LatencyLaw, FreeDepthIsWhatFits) {
  EXPECT_EQ(FreeDepth(Phases(0), Ms(2), 8), 4);  // 9 ms of room
  EXPECT_EQ(FreeDepth(Phases(0), Ms(3), 8), 3);  // exactly
  EXPECT_EQ(FreeDepth(Phases(0), Ms(2), 3), 3);
  EXPECT_EQ(FreeDepth(Phases(0), Ms(10), 8), 0);
  RoundPhases slow = Phases(0);
  slow.relay = Ms(20);
  EXPECT_EQ(FreeDepth(slow, Ms(1), 8), 0);
  for (int32_t depth = 0; depth <= 4; ++depth) {
    EXPECT_EQ(MirrorRound(Phases(depth)), MirrorRound(Phases(0))) << depth;
  }
}

TEST(LatencyLaw, TwoCohortsTakeTurns) {
  // 20 + 20 of the two passes; a serial round of depth 4 takes 30, of depth 12 it takes 46.
  EXPECT_EQ(TwoCohortsRound(Phases(4), Phases(4)), Ms(40));
  EXPECT_EQ(TwoCohortsRound(Phases(12), Phases(12)), Ms(46));
}

TEST(LatencyLaw, TokensOfAWindow) {
  EXPECT_DOUBLE_EQ(ExpectedTokens({}), 1);
  EXPECT_DOUBLE_EQ(ExpectedTokens(std::vector<double>{0.5, 0.5}), 1.75);
  EXPECT_DOUBLE_EQ(ExpectedTokens(std::vector<double>{0.8, 0.5, 0.25}), 1 + 0.8 + 0.4 + 0.1);
  EXPECT_DOUBLE_EQ(ExpectedTokens(1.0, 4), 5);
  EXPECT_DOUBLE_EQ(ExpectedTokens(0.0, 4), 1);
  EXPECT_NEAR(ExpectedTokens(0.8, 4), (1 - 0.32768) / 0.2, 1e-12);  // the geometric sum
}

TEST(LatencyLaw, SharesOfWindowsAndMisses) {
  EXPECT_DOUBLE_EQ(ShareOfWindows(0.8, 0.8), 0.8);
  EXPECT_DOUBLE_EQ(ShareOfWindows(0.9, 0.5), 5.0 / 6);
  EXPECT_DOUBLE_EQ(ShareOfWindows(0.0, 0.0), 0);
  EXPECT_DOUBLE_EQ(ShareOfWindows(1.0, 0.0), 1);  // it began with one and never loses it
  EXPECT_NEAR(AnyMiss(0.8, 16), 0.9719, 1e-4);    // DESIGN section 4
  EXPECT_DOUBLE_EQ(AnyMiss(0.5, 1), 0.5);
  EXPECT_DOUBLE_EQ(AnyMiss(0.5, 3), 0.875);
  EXPECT_DOUBLE_EQ(AnyMiss(1.0, 64), 0);
}

TEST(LatencyLaw, SpeedIsTokensOverTime) {
  EXPECT_DOUBLE_EQ(Speed(3, Ms(20)), 150);
  EXPECT_DOUBLE_EQ(Speed(3, absl::ZeroDuration()), 0);
}

TEST(PaperLaw, HidesTheDraftUpToTheSuffix) {
  EXPECT_EQ(PaperSerialRound(Ms(10), Ms(10), Ms(8)), Ms(28));
  EXPECT_EQ(PaperMirrorRound(Ms(10), Ms(10), Ms(8), Ms(1), Ms(1)), Ms(22));
  EXPECT_EQ(PaperMirrorRound(Ms(10), Ms(10), Ms(14), Ms(1), Ms(1)), Ms(26));
  // Where the two agree: no exit head, no residual, nobody misses.
  RoundPhases phases = Phases(4);
  phases.exit_head = phases.p1_residual = absl::ZeroDuration();
  EXPECT_EQ(MirrorRound(phases), PaperMirrorRound(Ms(9), Ms(11), Ms(8), Ms(0), Ms(1)));
}

TEST(SsdTheorem, ExpectedSpeed) {
  // All hits, a speculator faster than the pass: drafting costs nothing.
  EXPECT_DOUBLE_EQ(SsdSpeedup({.hit_rate = 1, .tokens_hit = 4, .primary = 0.7}), 4);
  // A slower one sets the pace.
  EXPECT_DOUBLE_EQ(SsdSpeedup({.hit_rate = 1, .tokens_hit = 4, .primary = 2}), 2);
  // No hits and the same speculator as backup: serial speculation.
  EXPECT_DOUBLE_EQ(SsdSpeedup({.hit_rate = 0, .tokens_miss = 4, .backup = 0.6}), 2.5);
  // (0.8 * 4 + 0.2 * 1) / (0.8 * 1 + 0.2 * 1.5) = 3.4 / 1.1
  EXPECT_DOUBLE_EQ(SsdSpeedup({.hit_rate = 0.8, .tokens_hit = 4, .primary = 0.9, .backup = 0.5}),
                   3.4 / 1.1);
  // In a batch of two somebody misses in 36 % of the rounds: 3.4 / (0.64 + 0.36 * 1.5).
  EXPECT_DOUBLE_EQ(
      SsdSpeedup({.hit_rate = 0.8, .tokens_hit = 4, .primary = 0.9, .backup = 0.5, .batch = 2}),
      3.4 / (0.64 + 0.36 * 1.5));
}

}  // namespace
}  // namespace mirrorsd::scheduler
