#pragma once
// Turns what the scheduler's core has counted and measured into its metrics. Called on the scheduler's thread.

#include <cstdint>
#include <vector>

#include "services/scheduler/scheduler_server.h"
#include "services/telemetry/scheduler_metrics.h"

namespace mirrorsd::cell {

class SchedulerReportMetrics final : public scheduler::SchedulerObserver {
 public:
  // `registry` outlives it.
  explicit SchedulerReportMetrics(telemetry::MetricRegistry* registry);

  void OnReport(const scheduler::SchedulerReport& report) override;

 private:
  void ShowCounters(const scheduler::CoreCounters& counters);
  void ShowBranches(const scheduler::CoreCounters& counters);
  void ShowGauges(const scheduler::CoreGauges& gauges);
  void Observe(const scheduler::Observation& observation);

  const telemetry::SchedulerMetrics metrics_;
  std::vector<int64_t> hits_shown_;  // [depth - 1] that the histogram has
  telemetry::Histogram round_phases_[2][scheduler::kNumObservationKinds];  // by has_prompt and ObservationKind
};

}  // namespace mirrorsd::cell
