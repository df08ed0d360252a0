#include "services/bench/rounds/report.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/bench/rounds/plots.h"

namespace mirrorsd::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RoundsSettings Settings() { return {.contestants = *MakeContestants({"serial"}, {4}), .repeats = 3}; }

// One workload a repeat: plain takes 2, 20, 2 s for 101 tokens, serial 1, 10, 0.5 s.
RoundsMeasurement TwoSides() {
  RoundsMeasurement measurement{.num_answers_compared = 3};
  const double plain[] = {2, 20, 2}, serial[] = {1, 10, 0.5};
  for (int repeat = 0; repeat < 3; ++repeat) {
    Sums sums{.tokens = 101, .decoded_tokens = 100, .decode_s = plain[repeat], .wall_s = plain[repeat] + 1,
              .rounds = 100, .workloads = 1};
    measurement.places[{1, 0, 0, "story"}].by_repeat[repeat] = sums;
    sums.decode_s = serial[repeat], sums.wall_s = serial[repeat] + 1;
    sums.rounds = 40, sums.drafted = 160, sums.accepted = 60;
    measurement.places[{1, 0, 1, "story"}].by_repeat[repeat] = sums;
  }
  return measurement;
}

const Figure& Find(const std::vector<Figure>& figures, const std::string& mode, const std::string& category) {
  for (const Figure& figure : figures) {
    if (figure.contestant.mode == mode && figure.category == category) return figure;
  }
  ADD_FAILURE() << mode << " " << category;
  return figures.front();
}

TEST(Report, SpeedsArePairedByRepeat) {
  const auto figures = MakeFigures(Settings(), TwoSides());
  const Figure& serial = Find(figures, "serial", "story");
  EXPECT_EQ(serial.speed.value, 2);  // of 2, 2, 4
  EXPECT_EQ(serial.speed.high, 4);
  EXPECT_EQ(serial.decode_rate.value, 100);
  EXPECT_DOUBLE_EQ(serial.end_to_end_speed.value, 21.0 / 11);  // of 1.5, 21/11, 2
  EXPECT_DOUBLE_EQ(serial.AcceptanceLength(), 1 + 60.0 / 40);
  EXPECT_DOUBLE_EQ(serial.AcceptanceRate(), 60.0 / 160);
  EXPECT_EQ(Find(figures, "off", "story").speed.count, 0);
}

TEST(Report, AllIsTheSumOfTheCategoriesOfCompleteRepeats) {
  RoundsMeasurement measurement = TwoSides();
  for (int contestant = 0; contestant < 2; ++contestant) {
    for (int repeat = 0; repeat < 2; ++repeat) {  // the third repeat was interrupted
      measurement.places[{1, 0, contestant, "json"}].by_repeat[repeat] =
          Sums{.tokens = 11, .decoded_tokens = 10, .decode_s = 1, .wall_s = 1, .rounds = 10, .workloads = 1};
    }
  }
  const auto figures = MakeFigures(Settings(), measurement);
  const Figure& all = Find(figures, "serial", kAllCategories);
  EXPECT_EQ(all.speed.count, 2);
  EXPECT_DOUBLE_EQ(all.speed.value, (3.0 / 2 + 21.0 / 11) / 2);
  EXPECT_EQ(all.sums.tokens, 2 * 112);
}

TEST(Report, RepeatsOfUnequalWorkAreNoPairs) {
  RoundsMeasurement measurement = TwoSides();
  measurement.places[{1, 0, 1, "story"}].by_repeat[2].workloads = 2;
  EXPECT_EQ(Find(MakeFigures(Settings(), measurement), "serial", "story").speed.count, 2);
}

TEST(Report, TableAndJsonSayTheSame) {
  const RoundsMeasurement measurement = TwoSides();
  const auto figures = MakeFigures(Settings(), measurement);
  const std::string table = RoundsTable(Settings(), measurement, figures);
  EXPECT_THAT(table, HasSubstr("2.00 [2.00, 4.00]"));
  EXPECT_THAT(table, HasSubstr("3 answers compared"));
  EXPECT_THAT(table, Not(HasSubstr("VOID")));
  nlohmann::ordered_json line;
  AddRounds(Settings(), measurement, figures, &line);
  bool found = false;
  for (const auto& figure : line["figures"]) {
    if (figure["mode"] != "serial" || figure["category"] != "story") continue;
    found = true;
    EXPECT_EQ(figure["speed_over_plain"]["median"], 2);
    EXPECT_EQ(figure["mean_acceptance_length"], 2.5);
    EXPECT_EQ(figure["rounds"], 120);
  }
  EXPECT_TRUE(found);
  EXPECT_FALSE(line.contains("void"));
}

TEST(Report, BranchesHaveATableOfTheirOwn) {
  RoundsSettings settings = Settings();
  settings.contestants.push_back({"mirror", 4, 8});
  settings.branch_setting = "at most 64 branches a round, after a miss ngram";
  RoundsMeasurement measurement = TwoSides();
  EXPECT_EQ(BranchTable(MakeFigures(settings, measurement)), "");
  measurement.places[{1, 0, 2, "story"}].by_repeat[0] =
      Sums{.tokens = 101, .decoded_tokens = 100, .decode_s = 1, .wall_s = 2, .rounds = 40, .drafted = 100,
           .accepted = 60, .empty_windows = 3, .branch_hits = 30, .branch_hit_depth = 75, .branch_misses = 10,
           .ngram_windows = 6, .held_windows = 1, .workloads = 1};
  const auto figures = MakeFigures(settings, measurement);
  const Figure& mirror = Find(figures, "mirror", "story");
  EXPECT_DOUBLE_EQ(mirror.HitRate(), 0.75);
  EXPECT_DOUBLE_EQ(mirror.HitDepth(), 2.5);
  const std::string table = RoundsTable(settings, measurement, figures);
  EXPECT_THAT(table, HasSubstr("mirror 4 k8"));
  EXPECT_THAT(table, HasSubstr("after a miss ngram"));
  EXPECT_THAT(table, HasSubstr("0.75   2.50       3       6       1"));
  nlohmann::ordered_json line;
  AddRounds(settings, measurement, figures, &line);
  for (const auto& figure : line["figures"]) {
    EXPECT_EQ(figure.contains("branch_hit_rate"), figure["mode"] == "mirror");
    if (figure["mode"] != "mirror") continue;
    EXPECT_EQ(figure["branch_top_k"], 8);
    EXPECT_EQ(figure["branch_hit_rate"], 0.75);
    EXPECT_EQ(figure["fallbacks"]["ngram"], 6);
  }
}

TEST(Report, MirrorRoundsArePredictedFromSerialOnes) {
  RoundsSettings settings = Settings();
  settings.contestants.push_back({"mirror", 4, 8});
  RoundsMeasurement measurement = TwoSides();
  measurement.places[{1, 0, 1, "story"}].phases.phases = {
      {"total", {1.0, 100}}, {"prefix", {0.4, 100}}, {"suffix", {0.5, 100}}, {"sample", {0.02, 100}}};
  Measured& mirror = measurement.places[{1, 0, 2, "story"}];
  mirror.by_repeat[0] = Sums{.tokens = 1, .rounds = 10, .branch_hits = 1, .workloads = 1};
  mirror.phases.phases = {{"total", {1.1, 100}}, {"exit_head", {0.05, 100}}};
  mirror.phases.wait_for_draft = {0.1, 3};
  const auto figures = MakeFigures(settings, measurement);
  const Figure& figure = Find(figures, "mirror", "story");
  EXPECT_DOUBLE_EQ(figure.RoundMilliseconds(), 12);
  ASSERT_TRUE(figure.predicted_round_ms.has_value());
  EXPECT_NEAR(*figure.predicted_round_ms, 10.5, 1e-6);
  EXPECT_FALSE(Find(figures, "serial", "story").predicted_round_ms.has_value());
}

TEST(Report, OverrunsAndInterruptionsAreSaidAloud) {
  RoundsMeasurement measurement = TwoSides();
  measurement.paced["verifier-worker"] = {.steps = 10000, .overruns = 0};
  measurement.paced["draft-worker"] = {.steps = 1000, .overruns = 1};
  EXPECT_FALSE(measurement.IsVoid());
  measurement.paced["draft-worker"].overruns = 2;  // of all steps too few to be seen
  measurement.interrupted = true;
  const auto figures = MakeFigures(Settings(), measurement);
  EXPECT_THAT(RoundsTable(Settings(), measurement, figures), HasSubstr("VOID"));
  EXPECT_THAT(RoundsTable(Settings(), measurement, figures), HasSubstr("INTERRUPTED"));
  nlohmann::ordered_json line;
  AddRounds(Settings(), measurement, figures, &line);
  EXPECT_EQ(line["void"], true);
  EXPECT_EQ(line["interrupted"], true);
}

nlohmann::json LineWithSpeed(double median, double low, double high) {
  return nlohmann::json{
      {"figures",
       {{{"batch", 1}, {"temperature", 0.0}, {"mode", "serial"}, {"window", 4}, {"category", "story"},
         {"speed_over_plain", {{"median", median}, {"low", low}, {"high", high}, {"repeats", 7}}}}}}};
}

TEST(Compare, RunsAgreeWithinTheirIntervalsOnly) {
  const auto same = CompareRounds(LineWithSpeed(1.5, 1.4, 1.6), LineWithSpeed(1.6, 1.5, 1.7), "a", "b");
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->num_figures, 1);
  EXPECT_TRUE(same->agree);
  const auto apart = CompareRounds(LineWithSpeed(1.5, 1.4, 1.6), LineWithSpeed(1.8, 1.7, 1.9), "a", "b");
  EXPECT_EQ(apart->num_apart, 1);
  EXPECT_THAT(apart->table, HasSubstr("APART"));
}

TEST(Compare, WhatIsNoLineOfRoundsIsRefused) {
  EXPECT_FALSE(CompareRounds({1, 2}, LineWithSpeed(1, 1, 1), "a", "b").ok());
  EXPECT_FALSE(CompareRounds({{"figures", 3}}, LineWithSpeed(1, 1, 1), "a", "b").ok());
  EXPECT_FALSE(CompareRounds({{"figures", {7, "x"}}}, LineWithSpeed(1, 1, 1), "a", "b").ok());
  nlohmann::json broken = LineWithSpeed(1.5, 1.4, 1.6);
  broken["figures"][0].erase("window");
  EXPECT_FALSE(CompareRounds(broken, LineWithSpeed(1, 1, 1), "a", "b").ok());
  broken = LineWithSpeed(1.5, 1.4, 1.6);
  broken["figures"][0]["speed_over_plain"]["low"] = "x";
  EXPECT_FALSE(CompareRounds(broken, LineWithSpeed(1, 1, 1), "a", "b").ok());
}

TEST(Plots, ThereIsOneForEachQuestion) {
  RoundsMeasurement measurement = TwoSides();
  const auto plots = RoundsPlots(MakeFigures(Settings(), measurement), "a & b");
  ASSERT_EQ(plots.size(), 2u);  // one window, one batch: no lines along them
  EXPECT_EQ(plots[0].first, "speed_batch1_temperature0.svg");
  EXPECT_THAT(plots[0].second, HasSubstr("a &amp; b"));
  EXPECT_THAT(plots[1].second, HasSubstr("acceptance length"));
}

}  // namespace
}  // namespace mirrorsd::bench
