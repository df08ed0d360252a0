#include "tools/simulate/model/text_model.h"

#include <set>

#include "gtest/gtest.h"

namespace mirrorsd::simulate {
namespace {

constexpr int kPrefixes = 20000;

TextKind Kind() {
  TextKind kind;
  kind.name = "story";
  kind.acceptance = {0.8, 0.6};
  kind.own_rank = RecallCurve({{1, 0.5}, {3, 0.7}});
  kind.exit_given_reject = RecallCurve({{1, 0.4}, {4, 0.8}});
  kind.exit_all = RecallCurve({{1, 0.6}, {8, 0.9}});
  return kind;
}

Prefix PrefixAt(const TextModel& model, int i) { return Extend(model.Begin(7), i); }

TEST(RecallCurve, StraightLinesBetweenThePoints) {
  const RecallCurve curve({{1, 0.4}, {4, 0.7}});
  EXPECT_DOUBLE_EQ(curve.At(0), 0);
  EXPECT_DOUBLE_EQ(curve.At(1), 0.4);
  EXPECT_DOUBLE_EQ(curve.At(2), 0.5);
  EXPECT_DOUBLE_EQ(curve.At(9), 0.7);
  EXPECT_EQ(curve.Rank(0.0), 0);
  EXPECT_EQ(curve.Rank(0.39), 0);
  EXPECT_EQ(curve.Rank(0.41), 1);
  EXPECT_EQ(curve.Rank(0.69), 3);
  EXPECT_EQ(curve.Rank(0.7), std::nullopt);
  EXPECT_EQ(RecallCurve().Rank(0.0), std::nullopt);
}

TEST(TextModel, TheDraftAgreesAsOftenAsItShall) {
  const TextModel model({Kind()}, 1);
  int at_first = 0, later = 0, second = 0, within_three = 0, missed = 0;
  for (int i = 0; i < kPrefixes; ++i) {
    const Prefix prefix = PrefixAt(model, i);
    const TokenId target = model.Target(prefix);
    const bool hit = model.Draft(Kind(), prefix, 0, 0) == target;
    at_first += hit;
    later += model.Draft(Kind(), prefix, 5, 0) == target;
    if (hit) continue;
    ++missed;
    second += model.Draft(Kind(), prefix, 0, 1) == target;
    for (int rank = 1; rank <= 3; ++rank) {
      within_three += model.Draft(Kind(), prefix, 0, rank) == target;
    }
  }
  EXPECT_NEAR(1.0 * at_first / kPrefixes, 0.8, 0.01);
  EXPECT_NEAR(1.0 * later / kPrefixes, 0.6, 0.01);
  EXPECT_NEAR(1.0 * second / missed, 0.5, 0.03);
  EXPECT_NEAR(1.0 * within_three / missed, 0.7, 0.03);
}

TEST(TextModel, RanksAreDistinctTokens) {
  const TextModel model({Kind()}, 1);
  for (int i = 0; i < 200; ++i) {
    std::set<TokenId> seen;
    for (int rank = 0; rank < 16; ++rank) {
      const TokenId token = model.Draft(Kind(), PrefixAt(model, i), 0, rank);
      EXPECT_TRUE(seen.insert(token).second);
      EXPECT_TRUE(token >= 0 && token < kVocabulary);
    }
  }
}

TEST(TextModel, TheExitRecallsAsOftenAsItShall) {
  const TextModel model({Kind()}, 1);
  int rejects = 0, first = 0, four = 0, all = 0, bonus = 0;
  for (int i = 0; i < kPrefixes; ++i) {
    const Prefix prefix = PrefixAt(model, i);
    const TokenId target = model.Target(prefix);
    const TokenId drafted = model.Draft(Kind(), prefix, 0, 0);
    const auto has = [&](const EarlyExitRow& row) {
      for (const Candidate& candidate : row.candidates) {
        if (candidate.token == target) return true;
      }
      return false;
    };
    const EarlyExitRow last = model.Exit(Kind(), prefix, std::nullopt, 8);
    EXPECT_FALSE(last.drafted_score.has_value());
    ++all;
    bonus += has(last);
    if (drafted == target) continue;
    ++rejects;
    first += has(model.Exit(Kind(), prefix, drafted, 1));
    four += has(model.Exit(Kind(), prefix, drafted, 4));
  }
  EXPECT_NEAR(1.0 * bonus / all, 0.9, 0.01);
  EXPECT_NEAR(1.0 * first / rejects, 0.4, 0.03);
  EXPECT_NEAR(1.0 * four / rejects, 0.8, 0.03);
}

TEST(TextModel, RowsAreAsTheContractHasThem) {
  const TextModel model({Kind()}, 1);
  for (int i = 0; i < 2000; ++i) {
    const Prefix prefix = PrefixAt(model, i);
    const TokenId drafted = model.Draft(Kind(), prefix, 0, 0);
    const EarlyExitRow row = model.Exit(Kind(), prefix, drafted, 4);
    ASSERT_TRUE(row.drafted_score.has_value());
    ASSERT_EQ(row.candidates.size(), 4u);
    std::set<TokenId> seen{drafted};
    for (size_t k = 0; k < 4; ++k) {
      EXPECT_TRUE(seen.insert(row.candidates[k].token).second);
      if (k == 0) continue;
      EXPECT_LE(row.candidates[k].score, row.candidates[k - 1].score);
    }
    // Asking for fewer gives the same ones.
    EXPECT_EQ(model.Exit(Kind(), prefix, drafted, 2).candidates[1].token, row.candidates[1].token);
  }
}

// What a calibrated table lives on: the further the drafted token is ahead, the rarer a reject.
TEST(TextModel, GapsTell) {
  const TextModel model({Kind()}, 1);
  int num[2] = {0, 0}, accepted[2] = {0, 0};
  for (int i = 0; i < kPrefixes; ++i) {
    const Prefix prefix = PrefixAt(model, i);
    const TokenId drafted = model.Draft(Kind(), prefix, 0, 0);
    const EarlyExitRow row = model.Exit(Kind(), prefix, drafted, 2);
    const int ahead = *row.drafted_score - row.candidates[0].score > 1 ? 1 : 0;
    ++num[ahead];
    accepted[ahead] += drafted == model.Target(prefix);
  }
  EXPECT_GT(1.0 * accepted[1] / num[1], 1.0 * accepted[0] / num[0] + 0.15);
}

TEST(TextModel, KindsBySharesAndStreamsBySeed) {
  TextKind rare = Kind();
  rare.name = "program";
  rare.weight = 0.25;
  const TextModel model({Kind(), rare}, 3);
  int num_rare = 0;
  for (int i = 0; i < kPrefixes; ++i) num_rare += model.KindOf(model.RequestSeed(i)).name == "program";
  EXPECT_NEAR(1.0 * num_rare / kPrefixes, 0.2, 0.01);
  EXPECT_NE(model.Begin(1), model.Begin(257));
  EXPECT_EQ(TextModel({Kind()}, 3).Begin(5), model.Begin(5));
  EXPECT_NE(TextModel({Kind()}, 4).Begin(5), model.Begin(5));
}

}  // namespace
}  // namespace mirrorsd::simulate
