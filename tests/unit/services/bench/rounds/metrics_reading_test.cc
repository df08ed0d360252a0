#include "services/bench/rounds/metrics_reading.h"

#include "gtest/gtest.h"

namespace mirrorsd::bench {
namespace {

TEST(MetricsReading, TakesPhasesWaitsAndOverruns) {
  const MetricsReading reading = ReadMetrics(
      "# HELP mirrorsd_round_seconds Time of a round.\n"
      "# TYPE mirrorsd_round_seconds histogram\n"
      "mirrorsd_round_seconds_count{phase=\"total\",role=\"scheduler\"} 4\n"
      "mirrorsd_round_seconds_sum{phase=\"total\",role=\"scheduler\"} 0.02\n"
      "mirrorsd_round_seconds_bucket{phase=\"total\",role=\"scheduler\",le=\"0.01\"} 3\n"
      "mirrorsd_round_seconds_count{role=\"scheduler\",phase=\"suffix\"} 4\n"
      "mirrorsd_round_seconds_sum{role=\"scheduler\",phase=\"suffix\"} 1.6e-2\n"
      "mirrorsd_verifier_wait_for_draft_seconds_count{role=\"scheduler\"} 2\n"
      "mirrorsd_verifier_wait_for_draft_seconds_sum{role=\"scheduler\"} 0.003\n"
      "mirrorsd_round_seconds_count{phase=\"total\",prompts=\"yes\",role=\"scheduler\"} 3\n"
      "mirrorsd_round_seconds_sum{phase=\"total\",prompts=\"yes\",role=\"scheduler\"} 9\n"
      "mirrorsd_round_seconds_count{phase=\"suffix\",prompts=\"yes\",role=\"scheduler\"} 3\n"
      "mirrorsd_fallback_rounds_total{kind=\"empty\",role=\"scheduler\"} 5\n"
      "mirrorsd_fallback_rounds_total{kind=\"ngram\",role=\"scheduler\"} 7\n"
      "mirrorsd_paced_steps_total{role=\"verifier-worker\"} 1000\n"
      "mirrorsd_paced_steps_total{role=\"draft-worker\"} 500\n"
      "mirrorsd_paced_overruns_total{role=\"draft-worker\"} 2\n"
      "mirrorsd_paced_late_wakes_total{role=\"draft-worker\"} 3\n"
      "mirrorsd_other{a=\"b c\"} 7\n"
      "not a metric at all\n");
  EXPECT_DOUBLE_EQ(reading.phases.at("total").MeanMilliseconds(), 5);
  EXPECT_DOUBLE_EQ(reading.phases.at("suffix").MeanMilliseconds(), 4);
  EXPECT_DOUBLE_EQ(reading.wait_for_draft.MeanMilliseconds(), 1.5);
  EXPECT_EQ(reading.prompt_rounds, 3);
  EXPECT_EQ(reading.Count("suffix"), 4);
  EXPECT_EQ(reading.empty_windows, 5);
  EXPECT_EQ(reading.paced.at("verifier-worker").steps, 1000);
  EXPECT_EQ(reading.paced.at("verifier-worker").overruns, 0);
  EXPECT_EQ(reading.paced.at("draft-worker").steps, 500);
  EXPECT_EQ(reading.paced.at("draft-worker").overruns, 2);
  EXPECT_EQ(reading.paced.at("draft-worker").late_wakes, 3);
  EXPECT_TRUE(reading.paced.at("draft-worker").IsVoid());
}

TEST(MetricsReading, DifferencesAndSumsUndoEachOther) {
  const MetricsReading before = ReadMetrics("mirrorsd_round_seconds_count{phase=\"total\"} 4\n"
                                            "mirrorsd_round_seconds_sum{phase=\"total\"} 1\n");
  const MetricsReading after = ReadMetrics("mirrorsd_round_seconds_count{phase=\"total\"} 14\n"
                                           "mirrorsd_round_seconds_sum{phase=\"total\"} 2\n"
                                           "mirrorsd_fallback_rounds_total{kind=\"empty\"} 3");
  MetricsReading delta = after.Since(before);
  EXPECT_DOUBLE_EQ(delta.phases.at("total").MeanMilliseconds(), 100);
  EXPECT_EQ(delta.empty_windows, 3);
  delta.Add(before);
  EXPECT_EQ(delta.phases.at("total").count, 14);
  EXPECT_EQ(delta.phases.at("total").seconds, 2);
}

TEST(MetricsReading, RelayQuantilesAreLinearWithinABucket) {
  const std::string name = "mirrorsd_early_exit_relay_seconds_bucket{role=\"scheduler\",le=";
  const MetricsReading reading = ReadMetrics(name + "\"0.0001\"} 0\n" + name + "\"0.0002\"} 50\n" + name +
                                             "\"0.0003\"} 99\n" + name + "\"+Inf\"} 100\n");
  EXPECT_DOUBLE_EQ(*reading.RelayQuantile(0.5), 0.0002);
  EXPECT_DOUBLE_EQ(*reading.RelayQuantile(0.25), 0.00015);
  EXPECT_DOUBLE_EQ(*reading.RelayQuantile(0.99), 0.0003);
  EXPECT_DOUBLE_EQ(*reading.RelayQuantile(1), 0.0003);  // above the last bound
  EXPECT_FALSE(reading.Since(reading).RelayQuantile(0.5).has_value());
  EXPECT_FALSE(ReadMetrics("").RelayQuantile(0.5).has_value());
}

TEST(MetricsReading, IdleIsWhatRoundsAndWaitsHaveBesidesComputing) {
  const MetricsReading reading = ReadMetrics("mirrorsd_round_seconds_sum{phase=\"total\"} 9\n"
                                             "mirrorsd_round_seconds_sum{phase=\"queue\"} 1\n"
                                             "mirrorsd_round_seconds_sum{phase=\"prefix\"} 4\n"
                                             "mirrorsd_round_seconds_sum{phase=\"exit_head\"} 0.5\n"
                                             "mirrorsd_round_seconds_sum{phase=\"suffix\"} 2.5\n"
                                             "mirrorsd_round_seconds_sum{phase=\"sample\"} 0.5\n"
                                             "mirrorsd_verifier_wait_for_draft_seconds_sum 1\n");
  EXPECT_DOUBLE_EQ(*reading.IdleShare(), 0.25);
  EXPECT_FALSE(ReadMetrics("").IdleShare().has_value());
}

TEST(MetricsReading, NothingIsZero) {
  EXPECT_EQ(ReadMetrics("").phases.size(), 0u);
  EXPECT_EQ(Total().MeanMilliseconds(), 0);
}

}  // namespace
}  // namespace mirrorsd::bench
