#include "scheduler/odds/branch_odds.h"

#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

TEST(AcceptanceRecord, FollowsWhatIsAccepted) {
  AcceptanceRecord record;
  for (int round = 0; round < 400; ++round) record.Learn(4, false);
  EXPECT_GT(record.rate(), 0.99);
  for (int round = 0; round < 400; ++round) record.Learn(1, true);  // every second row
  EXPECT_NEAR(record.rate(), 0.5, 0.03);
}

TEST(AddOwnBranches, PutsEverythingAcceptedFirstWhereDraftsAreAccepted) {
  std::vector<BranchOption> options;
  AddOwnBranches(7, 3, 0.95, &options);
  double sum = 0;
  for (const BranchOption& option : options) {
    EXPECT_EQ(option.sequence, 7);
    EXPECT_FALSE(option.root.token.has_value());
    EXPECT_GE(option.root.own_rank, 0);
    EXPECT_LE(option.root.num_accepted, 3);
    EXPECT_GE(option.probability, kMinBranchProbability);
    sum += option.probability;
  }
  EXPECT_LE(sum, 1);
  KeepMostLikely(1, &options);
  ASSERT_EQ(options.size(), 1u);
  EXPECT_EQ(options[0].root.num_accepted, 3);
  EXPECT_EQ(options[0].root.own_rank, 0);

  options.clear();
  AddOwnBranches(0, 3, 0.2, &options);
  KeepMostLikely(1, &options);
  EXPECT_EQ(options[0].root.num_accepted, 0);
}

TEST(AddCandidateBranches, MultipliesTheWayThere) {
  GapTable gaps;
  // A drafted token two above the rest is right in nine of ten cases; alone in the last row, likewise.
  for (int i = 0; i < 1000; ++i) gaps.Learn(true, 2.5, i % 10 != 0);
  for (int i = 0; i < 1000; ++i) gaps.Learn(false, -2.5, i % 10 == 0);
  for (int i = 0; i < 1000; ++i) gaps.Learn(false, 2.5, i % 10 != 0);
  const std::vector<EarlyExitRow> rows = {{2.5f, {{11, 0.0f}}}, {2.5f, {{12, 0.0f}}},
                                          {std::nullopt, {{13, 2.5f}, {14, 0.0f}}}};
  std::vector<BranchOption> options;
  AddCandidateBranches(3, rows, gaps, &options);
  ASSERT_EQ(options.size(), 4u);
  EXPECT_NEAR(options[0].probability, 0.1, 0.01);
  EXPECT_NEAR(options[1].probability, 0.9 * 0.1, 0.01);
  EXPECT_NEAR(options[2].probability, 0.9 * 0.9 * 0.9, 0.02);
  EXPECT_EQ(options[2].root.num_accepted, 2);
  EXPECT_EQ(options[2].root.token, 13);
  EXPECT_NEAR(options[3].probability, 0.9 * 0.9 * 0.1, 0.01);
}

TEST(KeepMostLikely, KeepsTheOrderOfEqualOnesAndTakesABudgetOfNone) {
  std::vector<BranchOption> options = {{0, {0, 1, -1}, 0.2}, {1, {0, 2, -1}, 0.5}, {2, {0, 3, -1}, 0.2}};
  KeepMostLikely(2, &options);
  ASSERT_EQ(options.size(), 2u);
  EXPECT_EQ(options[0].sequence, 1);
  EXPECT_EQ(options[1].sequence, 0);
  KeepMostLikely(-3, &options);
  EXPECT_TRUE(options.empty());
}

}  // namespace
}  // namespace mirrorsd::scheduler
