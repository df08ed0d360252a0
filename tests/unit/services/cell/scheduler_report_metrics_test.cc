#include "services/cell/scheduler_report_metrics.h"

#include <gtest/gtest.h>

#include <string>

namespace mirrorsd::cell {
namespace {

using scheduler::BranchMissReason;
using scheduler::ObservationKind;

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(SchedulerReportMetricsTest, EveryBranchMetricIsThereFromTheStart) {
  telemetry::MetricRegistry registry;
  const SchedulerReportMetrics metrics(&registry);
  const std::string text = registry.Serialize();
  for (const char* line : {"mirrorsd_branch_hits_total{role=\"scheduler\"} 0",
                           "mirrorsd_branch_hit_depth_count{role=\"scheduler\"} 0",
                           "mirrorsd_branch_misses_total{reason=\"not_predicted\",role=\"scheduler\"} 0",
                           "mirrorsd_branch_misses_total{reason=\"not_drafted\",role=\"scheduler\"} 0",
                           "mirrorsd_branch_misses_total{reason=\"not_ready\",role=\"scheduler\"} 0",
                           "mirrorsd_fallback_rounds_total{kind=\"empty\",role=\"scheduler\"} 0",
                           "mirrorsd_fallback_rounds_total{kind=\"ngram\",role=\"scheduler\"} 0",
                           "mirrorsd_fallback_rounds_total{kind=\"hold\",role=\"scheduler\"} 0",
                           "mirrorsd_early_exit_relay_seconds_count{role=\"scheduler\"} 0",
                           "mirrorsd_round_seconds_count{phase=\"exit_head\",prompts=\"no\",role=\"scheduler\"} 0"}) {
    EXPECT_TRUE(Contains(text, line)) << line << "\n" << text;
  }
}

TEST(SchedulerReportMetricsTest, HitsAreCountedByDepthOnceEach) {
  telemetry::MetricRegistry registry;
  SchedulerReportMetrics metrics(&registry);
  scheduler::SchedulerReport report;
  report.counters.branch_hits_per_depth = {2, 0, 3};
  report.counters.branch_misses[static_cast<size_t>(BranchMissReason::kNotDrafted)] = 4;
  report.counters.ngram_windows = 5;
  report.counters.held_windows = 6;
  metrics.OnReport(report);
  metrics.OnReport(report);  // totals, not increments
  report.counters.branch_hits_per_depth = {2, 1, 3, 1};
  metrics.OnReport(report);
  const std::string text = registry.Serialize();
  EXPECT_TRUE(Contains(text, "mirrorsd_branch_hits_total{role=\"scheduler\"} 7")) << text;
  EXPECT_TRUE(Contains(text, "mirrorsd_branch_hit_depth_bucket{role=\"scheduler\",le=\"1\"} 2"));
  EXPECT_TRUE(Contains(text, "mirrorsd_branch_hit_depth_bucket{role=\"scheduler\",le=\"2\"} 3"));
  EXPECT_TRUE(Contains(text, "mirrorsd_branch_hit_depth_bucket{role=\"scheduler\",le=\"3\"} 6"));
  EXPECT_TRUE(Contains(text, "mirrorsd_branch_hit_depth_sum{role=\"scheduler\"} 17"));
  EXPECT_TRUE(Contains(text, "mirrorsd_branch_misses_total{reason=\"not_drafted\",role=\"scheduler\"} 4"));
  EXPECT_TRUE(Contains(text, "mirrorsd_fallback_rounds_total{kind=\"ngram\",role=\"scheduler\"} 5"));
  EXPECT_TRUE(Contains(text, "mirrorsd_fallback_rounds_total{kind=\"hold\",role=\"scheduler\"} 6"));
}

TEST(SchedulerReportMetricsTest, RelayAndExitHeadAreObserved) {
  telemetry::MetricRegistry registry;
  SchedulerReportMetrics metrics(&registry);
  scheduler::SchedulerReport report;
  report.observations = {{ObservationKind::kEarlyExitRelay, absl::Microseconds(180)},
                         {ObservationKind::kRoundExitHead, absl::Milliseconds(2)},
                         {ObservationKind::kRoundSuffix, absl::Milliseconds(3), 1, /*has_prompt=*/true}};
  metrics.OnReport(report);
  const std::string text = registry.Serialize();
  EXPECT_TRUE(Contains(text, "mirrorsd_early_exit_relay_seconds_bucket{role=\"scheduler\",le=\"0.00015\"} 0"));
  EXPECT_TRUE(Contains(text, "mirrorsd_early_exit_relay_seconds_bucket{role=\"scheduler\",le=\"0.0002\"} 1")) << text;
  EXPECT_TRUE(
      Contains(text, "mirrorsd_round_seconds_count{phase=\"exit_head\",prompts=\"no\",role=\"scheduler\"} 1"));
  EXPECT_TRUE(
      Contains(text, "mirrorsd_round_seconds_count{phase=\"suffix\",prompts=\"yes\",role=\"scheduler\"} 1"));
  EXPECT_TRUE(
      Contains(text, "mirrorsd_round_seconds_count{phase=\"suffix\",prompts=\"no\",role=\"scheduler\"} 0"));
}

}  // namespace
}  // namespace mirrorsd::cell
