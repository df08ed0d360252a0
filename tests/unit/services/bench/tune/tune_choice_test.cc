// The predictions of `mirrorsd tune` against rounds worked out by hand.

#include "services/bench/tune/tune_choice.h"

#include "gtest/gtest.h"
#include "services/bench/tune/tune_report.h"

namespace mirrorsd::bench {
namespace {

ExitLayer Exit(int32_t layer, double recall, double after_reject) {
  ExitLayer exit{.layer = layer,
                 .prefix = absl::Milliseconds(layer),
                 .exit_head = absl::Milliseconds(1),
                 .suffix = absl::Milliseconds(10 - layer),
                 .agreement = 0.5};
  exit.recall.fill(recall);
  exit.recall_given_reject.fill(after_reject);
  return exit;
}

TuneSetting Setting() {
  return {.window = 2,
          .draft_step = {.base_ns = 1'000'000},
          .plain_pass = absl::Milliseconds(8),
          .relay = absl::ZeroDuration(),
          .done = absl::ZeroDuration()};
}

TEST(TuneChoice, AMirrorRoundByHand) {
  // 5 + 1 + max(5, 0 + 1 + 2 x 1) ms; both depths are there in time.
  const Prediction one = PredictMirror(Setting(), Exit(5, 0.8, 0.4), 0);
  EXPECT_EQ(one.depth, 2);
  EXPECT_EQ(one.round, absl::Milliseconds(11));
  // Rejected at row 0 or 1 and foreseen, or accepted whole and foreseen.
  EXPECT_NEAR(one.hit_rate, 0.5 * 0.4 + 0.25 * 0.4 + 0.25 * 0.8, 1e-12);
  // Rounds with a window: the share x of x = 0.5 x + 0.8 (1 - x); they yield 1 + 0.5 + 0.25 tokens.
  const double windows = 0.8 / 1.3;
  EXPECT_NEAR(one.tokens, windows * 1.75 + (1 - windows), 1e-12);
  EXPECT_NEAR(one.speed, one.tokens / 0.011, 1e-9);
}

TEST(TuneChoice, WhatIsNotThereInTimeIsNoHit) {
  // The suffix of 2 ms has room for the residual and one depth; that of 1 ms for none.
  EXPECT_EQ(PredictMirror(Setting(), Exit(8, 0.8, 0.4), 0).depth, 1);
  const Prediction none = PredictMirror(Setting(), Exit(9, 1.0, 1.0), 0);
  EXPECT_EQ(none.depth, 0);
  EXPECT_EQ(none.hit_rate, 0);
  EXPECT_EQ(none.tokens, 1);
  EXPECT_EQ(none.round, absl::Milliseconds(11));
}

TEST(TuneChoice, TheBudgetBoundsK) {
  TuneSetting setting = Setting();
  ExitLayer exit = Exit(5, 0, 0);
  exit.agreement = 0;  // every row is rejected
  exit.recall_given_reject = {0.1, 0.2, 0.4, 0.8};
  EXPECT_NEAR(PredictMirror(setting, exit, 3).hit_rate, 0.8, 1e-12);
  setting.branch_budget = 12;  // of 3 rows: 4 each
  EXPECT_NEAR(PredictMirror(setting, exit, 3).hit_rate, 0.4, 1e-12);
  setting.batch = 4;
  EXPECT_NEAR(PredictMirror(setting, exit, 3).hit_rate, 0.1, 1e-12);
}

TEST(TuneChoice, TheBestLayerHasRecallAndRoomForTheDraft) {
  const std::vector<ExitLayer> exits = {Exit(1, 0.1, 0.1), Exit(5, 0.9, 0.9), Exit(9, 1.0, 1.0)};
  const Prediction best = BestMirror(Setting(), exits);
  EXPECT_EQ(best.layer, 5);
  EXPECT_EQ(best.branch_top_k, 1);  // more candidates bring nothing
  EXPECT_NEAR(PlainSpeed(Setting()), 125, 1e-9);
  // 10 ms and two depths; 1.75 tokens.
  EXPECT_NEAR(SerialSpeed(Setting(), exits[0]), 1.75 / 0.012, 1e-9);
}

TEST(TuneReport, NamesTheFlagsAndSaysWhereMirrorDoesNotPay) {
  const std::vector<TuneRun> runs = {{0, {Exit(1, 0.1, 0.1), Exit(5, 0.9, 0.9)}}};
  TuneSetting setting = Setting();
  EXPECT_NE(TuneTables("pair", setting, runs).find("--early-exit-layer 5 --branch-top-k 1"), std::string::npos);
  setting.plain_pass = absl::Milliseconds(1);
  EXPECT_NE(TuneTables("pair", setting, runs).find("--speculation off"), std::string::npos);
  const auto json = TuneFiguresJson(setting, runs);
  EXPECT_EQ(json["temperatures"][0]["chosen"]["early_exit_layer"], 5);
  EXPECT_EQ(json["temperatures"][0]["exits"].size(), 2u);
}

}  // namespace
}  // namespace mirrorsd::bench
