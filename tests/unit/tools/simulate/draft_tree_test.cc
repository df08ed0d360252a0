#include "tools/simulate/fleet/draft_tree.h"

#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::simulate {
namespace {

constexpr SequenceId kId = 9;
constexpr uint64_t kSeed = 256;

TextKind Kind() {
  TextKind kind;
  kind.acceptance = {0.5};
  kind.own_rank = RecallCurve({{1, 0.6}});
  return kind;
}

// A tree with a prompt of three tokens, caught up with.
class DraftTreeTest : public testing::Test {
 protected:
  DraftTreeTest() : text_({Kind()}, 1), tree_(&text_, kSeed, 3, 3) {
    tree_.Append(0, {1, 1, 1});
    EXPECT_EQ(tree_.TakeRows(100).total(), 3);
    tree_.Computed();
  }

  // What the draft says after the outputs.
  TokenId Says(const std::vector<TokenId>& outputs, int rank = 0) {
    Prefix prefix = text_.Begin(kSeed);
    for (const TokenId token : outputs) prefix = Extend(prefix, token);
    return text_.Draft(Kind(), prefix, 0, rank);
  }
  std::vector<RolloutProgress> Advance() {
    std::vector<RolloutProgress> progress;
    tree_.Advance(kId, &progress);
    return progress;
  }
  std::vector<RolloutProgress> Pass(int rows) {
    EXPECT_EQ(tree_.TakeRows(100).total(), rows);
    tree_.Computed();
    return Advance();
  }
  StartRollout Command(RoundId round, std::vector<TokenId> committed, std::vector<TokenId> window,
                       std::vector<RolloutRoot> roots, int depth) {
    StartRollout command;
    command.sequence_id = kId;
    command.round_id = round;
    command.committed_length = 3 + static_cast<int32_t>(committed.size());
    command.path_offset = 3;
    command.path_tokens = std::move(committed);
    command.window = std::move(window);
    command.roots = std::move(roots);
    command.depth = depth;
    return command;
  }

  TextModel text_;
  DraftTree tree_;
};

TEST_F(DraftTreeTest, OneRootOneTokenAPass) {
  ASSERT_TRUE(tree_.Start(Command(1, {}, {}, {{0, 50, -1}}, 3), 16));
  EXPECT_TRUE(Advance().empty());
  auto told = Pass(1);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].root_token, 50);
  EXPECT_EQ(told[0].token_ids, std::vector<TokenId>{Says({50})});
  EXPECT_FALSE(told[0].last);
  told = Pass(1);
  EXPECT_EQ(told[0].first_depth, 1);
  told = Pass(1);
  EXPECT_TRUE(told[0].last);
  EXPECT_FALSE(tree_.is_rolling());
  EXPECT_EQ(tree_.TakeRows(100).total(), 0);
}

TEST_F(DraftTreeTest, AllBranchesInOnePass) {
  ASSERT_TRUE(tree_.Start(Command(1, {40}, {41, 42}, {{0, 50, -1}, {1, 51, -1}, {2, 52, -1}}, 2), 16));
  // Token 40, the window's two and three roots; then a row for each branch.
  EXPECT_EQ(Pass(6).size(), 3u);
  const auto told = Pass(3);
  ASSERT_EQ(told.size(), 3u);
  const TokenId next = Says({40, 41, 42, 52});
  EXPECT_EQ(told[2].token_ids, std::vector<TokenId>{Says({40, 41, 42, 52, next})});
}

TEST_F(DraftTreeTest, OwnRanksAreKnownOnceTheirRowIsComputed) {
  ASSERT_TRUE(tree_.Start(Command(1, {}, {41}, {{1, std::nullopt, 0}, {0, std::nullopt, 0}}, 2), 16));
  EXPECT_TRUE(Advance().empty());
  // The window's row; the row before it is computed, so the second root is known.
  auto told = Pass(2);
  ASSERT_EQ(told.size(), 1u);
  const TokenId best = Says({}) == 41 ? Says({}, 1) : Says({});
  EXPECT_EQ(told[0].num_accepted, 0);
  EXPECT_EQ(told[0].root_token, best);
  told = Pass(2);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].num_accepted, 1);
  EXPECT_EQ(told[0].root_token, Says({41}));
}

TEST_F(DraftTreeTest, AWindowTokenIsNoOwnRank) {
  const TokenId drafted = Says({});
  ASSERT_TRUE(tree_.Start(Command(1, {}, {drafted}, {{0, std::nullopt, 0}}, 1), 16));
  Advance();
  const auto told = Pass(1);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].root_token, Says({}, 1));
}

// The tail that the window left unused is there at once, and so is what was hit.
TEST_F(DraftTreeTest, PromotionComputesNothingAgain) {
  ASSERT_TRUE(tree_.Start(Command(1, {}, {}, {{0, 50, -1}, {0, 60, -1}}, 6), 16));
  Advance();
  std::vector<TokenId> drafted;
  for (int depth = 0; depth < 6; ++depth) drafted.push_back(Pass(2)[0].token_ids[0]);
  // 50 was the outcome; four of its six tokens are the window.
  const std::vector<TokenId> window(drafted.begin(), drafted.begin() + 4);
  ASSERT_TRUE(tree_.Start(Command(2, {50}, window, {{4, std::nullopt, 0}}, 3), 16));
  EXPECT_EQ(tree_.kv_length(), 4);
  const auto told = Advance();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].root_token, drafted[4]);
  EXPECT_EQ(told[0].token_ids, std::vector<TokenId>{drafted[5]});
  EXPECT_EQ(Pass(1).size(), 1u);  // goes on where it ended
  // The other branch is gone: coming back to it computes it again.
  ASSERT_TRUE(tree_.Start(Command(3, {50}, {}, {{0, drafted[0], -1}}, 2), 16));
  EXPECT_EQ(Advance().size(), 1u);
}

TEST_F(DraftTreeTest, WhatIsNotOnTheNewTreeIsDropped) {
  ASSERT_TRUE(tree_.Start(Command(1, {}, {}, {{0, 50, -1}, {0, 60, -1}}, 1), 16));
  Pass(2);
  ASSERT_TRUE(tree_.Start(Command(2, {}, {}, {{0, 50, -1}}, 1), 16));
  EXPECT_EQ(Advance().size(), 1u);
  ASSERT_TRUE(tree_.Start(Command(3, {}, {}, {{0, 60, -1}}, 1), 16));
  EXPECT_TRUE(Advance().empty());
  EXPECT_EQ(Pass(1).size(), 1u);
}

TEST_F(DraftTreeTest, TheSameRoundAddsRoots) {
  ASSERT_TRUE(tree_.Start(Command(1, {}, {41}, {{0, 50, -1}}, 2), 16));
  Pass(1);
  ASSERT_TRUE(tree_.Start(Command(1, {}, {41}, {{0, 50, -1}, {1, 51, -1}}, 2), 16));
  const auto told = Pass(3);  // the branch that goes on, the window's row and the new root
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].first_depth, 1);
  EXPECT_EQ(told[1].first_depth, 0);
}

TEST_F(DraftTreeTest, RootsOfTheMostWorthGetTheRows) {
  ASSERT_TRUE(tree_.Start(Command(1, {}, {}, {{0, 50, -1}, {0, 60, -1}, {0, 70, -1}}, 1), 16));
  Advance();
  const DraftTree::Rows rows = tree_.TakeRows(2);
  EXPECT_EQ(rows.branches, 2);
  tree_.Computed();
  const auto told = Advance();
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[1].root_token, 60);
  EXPECT_EQ(Pass(1)[0].root_token, 70);
}

TEST_F(DraftTreeTest, OlderRoundsAndGapsAreRefused) {
  ASSERT_TRUE(tree_.Start(Command(5, {50}, {}, {{0, 51, -1}}, 1), 16));
  EXPECT_FALSE(tree_.Start(Command(4, {50}, {}, {{0, 51, -1}}, 1), 16));
  EXPECT_FALSE(tree_.Start(Command(6, {}, {}, {{0, 51, -1}}, 1), 16));  // behind what it was told
  StartRollout gap = Command(7, {}, {}, {{0, 51, -1}}, 1);
  gap.path_offset = 8;
  gap.committed_length = 8;
  EXPECT_FALSE(tree_.Start(gap, 16));
}

}  // namespace
}  // namespace mirrorsd::simulate
