#include "scheduler/core/commit.h"

#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

using Tokens = std::vector<TokenId>;

CommitCut Cut(const Tokens& yield, const Tokens& ends, int32_t remaining) {
  return CutAtEnd(yield, ends, remaining);
}

TEST(CutAtEnd, KeepsAYieldWithoutAnEndWhole) {
  const CommitCut cut = Cut({1, 2, 3}, {9}, 4);
  EXPECT_EQ(cut.num_tokens, 3);
  EXPECT_EQ(cut.finish, FinishReason::kNone);
}

TEST(CutAtEnd, StopsAtTheFirstEndTokenAndKeepsIt) {
  for (int row = 0; row < 4; ++row) {
    Tokens yield = {1, 2, 3, 4};
    yield[row] = 9;
    yield[3] = 9;
    const CommitCut cut = Cut(yield, {8, 9}, 100);
    EXPECT_EQ(cut.num_tokens, row + 1);
    EXPECT_EQ(cut.finish, FinishReason::kStop);
  }
}

TEST(CutAtEnd, StopsAtTheLastTokenThatMayBe) {
  for (int32_t remaining = 1; remaining <= 4; ++remaining) {
    const CommitCut cut = Cut({1, 2, 3, 4}, {9}, remaining);
    EXPECT_EQ(cut.num_tokens, remaining);
    EXPECT_EQ(cut.finish, FinishReason::kLength);
  }
}

TEST(CutAtEnd, WhateverComesFirstInTokenOrderWins) {
  EXPECT_EQ(Cut({1, 9, 3}, {9}, 1).finish, FinishReason::kLength);
  EXPECT_EQ(Cut({1, 9, 3}, {9}, 1).num_tokens, 1);
  EXPECT_EQ(Cut({1, 9, 3}, {9}, 3).finish, FinishReason::kStop);
  EXPECT_EQ(Cut({1, 9, 3}, {9}, 3).num_tokens, 2);
}

TEST(CutAtEnd, AnEndTokenAsTheLastOneIsAStop) {
  EXPECT_EQ(Cut({1, 9}, {9}, 2).finish, FinishReason::kStop);
}

TEST(CutAtEnd, WithoutEndTokensOnlyLengthEnds) {
  EXPECT_EQ(Cut({0, 1, 2}, {}, 5).finish, FinishReason::kNone);
}

TEST(CountRound, CountsAWholeWindowWhereNothingWasCut) {
  SpeculationStats stats;
  CountRound(/*window_size=*/4, /*num_accepted=*/2, /*num_committed=*/3, true, &stats);
  EXPECT_EQ(stats.rounds, 1);
  EXPECT_EQ(stats.drafted_tokens, 4);
  EXPECT_EQ(stats.accepted_tokens, 2);
  EXPECT_EQ(stats.drafted_per_position, (std::vector<int64_t>{1, 1, 1, 1}));
  EXPECT_EQ(stats.accepted_per_position, (std::vector<int64_t>{1, 1, 0, 0}));
}

TEST(CountRound, LeavesOutWhatLiesBehindTheCut) {
  SpeculationStats stats;
  CountRound(/*window_size=*/4, /*num_accepted=*/4, /*num_committed=*/2, true, &stats);
  EXPECT_EQ(stats.drafted_tokens, 2);
  EXPECT_EQ(stats.accepted_tokens, 2);
  EXPECT_EQ(stats.drafted_per_position.size(), 2u);
}

TEST(CountRound, AnEndAsTheCorrectionTokenCutsNothing) {
  SpeculationStats stats;
  CountRound(/*window_size=*/4, /*num_accepted=*/1, /*num_committed=*/2, true, &stats);
  EXPECT_EQ(stats.drafted_tokens, 4);
  EXPECT_EQ(stats.accepted_tokens, 1);
}

TEST(CountRound, CountsEmptyWindowsOnlyWhileSpeculationIsOn) {
  SpeculationStats stats;
  CountRound(0, 0, 1, false, &stats);
  EXPECT_EQ(stats.empty_window_rounds, 0);
  CountRound(0, 0, 1, true, &stats);
  EXPECT_EQ(stats.empty_window_rounds, 1);
  EXPECT_EQ(stats.rounds, 2);
  EXPECT_EQ(stats.drafted_tokens, 0);
}

TEST(CountRound, MeanAcceptanceLengthIsTokensPerRound) {
  SpeculationStats stats;
  int64_t tokens = 0;
  for (const auto& [window, accepted] : std::vector<std::pair<int, int>>{{4, 4}, {3, 0}, {0, 0}}) {
    CountRound(window, accepted, accepted + 1, true, &stats);
    tokens += accepted + 1;
  }
  EXPECT_EQ(stats.rounds + stats.accepted_tokens, tokens);
}

}  // namespace
}  // namespace mirrorsd::scheduler
