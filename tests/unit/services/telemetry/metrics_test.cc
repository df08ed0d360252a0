#include "services/telemetry/metrics.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "services/telemetry/gateway_metrics.h"
#include "services/telemetry/scheduler_metrics.h"

namespace mirrorsd::telemetry {
namespace {

using ::testing::TempDir;

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(MetricsTest, CounterCarriesPrefixLabelsAndValue) {
  MetricRegistry registry;
  const CounterFamily requests =
      registry.Counters("requests_total", "Requests.", {{"role", "gateway"}});
  requests.With({{"finish_reason", "stop"}}).Increment();
  requests.With({{"finish_reason", "stop"}}).Increment(2);
  requests.With({{"finish_reason", "stop"}}).Increment(-5);  // a counter never falls
  EXPECT_TRUE(Contains(registry.Serialize(),
                       "mirrorsd_requests_total{finish_reason=\"stop\",role=\"gateway\"} 3"))
      << registry.Serialize();
}

TEST(MetricsTest, AdvanceToFollowsATotalAndNeverFalls) {
  MetricRegistry registry;
  const Counter counter = registry.Counters("rounds_total", "Rounds.").With({});
  counter.AdvanceTo(7);
  counter.AdvanceTo(7);
  counter.AdvanceTo(3);
  EXPECT_EQ(counter.Value(), 7);
  counter.AdvanceTo(9);
  EXPECT_EQ(counter.Value(), 9);
}

TEST(MetricsTest, LabelOfTheMetricWinsOverTheFixedOne) {
  MetricRegistry registry;
  registry.Counters("worker_lost_total", "Lost.", {{"role", "scheduler"}})
      .With({{"role", "draft"}})
      .Increment();
  EXPECT_TRUE(Contains(registry.Serialize(), "mirrorsd_worker_lost_total{role=\"draft\"} 1"));
}

TEST(MetricsTest, DefaultHandlesDropWhatTheyAreTold) {
  Counter().Increment();
  Gauge().Set(1);
  Histogram().Observe(1);
  CounterFamily().With({{"a", "b"}}).Increment();
  EXPECT_EQ(Counter().Value(), 0);
}

TEST(MetricsTest, FamilyWithoutMetricsIsNotShown) {
  MetricRegistry registry;
  registry.Counters("requests_rejected_total", "Refused.");
  EXPECT_EQ(registry.Serialize(), "");
}

TEST(MergeExpositionsTest, EachNameStandsOnceWithAllItsMetrics) {
  MetricRegistry gateway;
  MetricRegistry scheduler;
  AddBuildInfo(&gateway, "gateway", "1.2.3");
  AddBuildInfo(&scheduler, "scheduler", "1.2.3");
  scheduler.Histograms("round_seconds", "Rounds.", {0.1, 1}).With({}).Observe(0.5);
  const std::string merged = MergeExpositions({gateway.Serialize(), scheduler.Serialize()});
  EXPECT_EQ(Count(merged, "# TYPE mirrorsd_build_info gauge"), 1u) << merged;
  EXPECT_EQ(Count(merged, "# HELP mirrorsd_build_info "), 1u);
  EXPECT_EQ(Count(merged, "mirrorsd_build_info{"), 2u);
  EXPECT_TRUE(Contains(merged, "mirrorsd_round_seconds_bucket{le=\"1\"} 1"));
  EXPECT_TRUE(Contains(merged, "mirrorsd_round_seconds_count 1"));
}

TEST(MergeExpositionsTest, TextThatIsNoExpositionIsLeftOut) {
  EXPECT_EQ(MergeExpositions({"<html>no metrics here</html>\n", ""}), "");
  EXPECT_EQ(MergeExpositions({"# HELP a b\n# TYPE a counter\na 1"}),
            "# HELP a b\n# TYPE a counter\na 1\n");
}

// Everything that both roles tell, with a value in every family.
std::string WholeExposition() {
  MetricRegistry gateway_registry;
  MetricRegistry scheduler_registry;
  GatewayMetrics gateway(&gateway_registry);
  SchedulerMetrics scheduler(&scheduler_registry);
  AddBuildInfo(&gateway_registry, "gateway", "0.1.0");
  AddBuildInfo(&scheduler_registry, "scheduler", "0.1.0");
  gateway.requests_rejected.With({{"reason", "INVALID_FIELD"}}).Increment();
  gateway.time_to_first_token_seconds.Observe(0.1);
  scheduler.requests_rejected.With({{"reason", "queue_full"}}).Increment();
  scheduler.num_accepted_tokens_per_pos.With({{"position", "0"}}).Increment();
  scheduler.fallback_rounds.With({{"kind", "empty"}}).Increment();
  scheduler.branch_misses.With({{"reason", "not_predicted"}}).Increment();
  scheduler.branch_hit_depth.Observe(3);
  scheduler.early_exit_relay_seconds.Observe(0.0002);
  scheduler.round_seconds.With({{"phase", "prefix"}}).Observe(0.01);
  scheduler.workers_attached.With({{"role", "draft"}, {"state", "ready"}}).Set(1);
  scheduler.worker_lost.With({{"role", "draft"}}).Increment();
  scheduler.speculation_degraded.With({{"reason", "draft_lost"}}).Set(1);
  scheduler.speculation_degraded_total.With({{"reason", "draft_lost"}}).Increment();
  return MergeExpositions({gateway_registry.Serialize(), scheduler_registry.Serialize()});
}

TEST(PromtoolTest, EveryMetricIsClean) {
  if (std::system("promtool --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool (Debian package prometheus) is not installed";
  }
  const std::string exposition = TempDir() + "mirrorsd_metrics_test.prom";
  const std::string verdict = exposition + ".out";
  std::ofstream(exposition) << WholeExposition();
  const std::string command = "promtool check metrics <" + exposition + " >" + verdict + " 2>&1";
  const int code = std::system(command.c_str());
  std::stringstream said;
  said << std::ifstream(verdict).rdbuf();
  EXPECT_EQ(code, 0) << said.str();
  EXPECT_EQ(said.str(), "");
}

}  // namespace
}  // namespace mirrorsd::telemetry
