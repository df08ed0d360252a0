#include "services/cell/scheduler_report_metrics.h"

#include <string>

#include "common/speculation_policy.h"

namespace mirrorsd::cell {
namespace {

using scheduler::ObservationKind;

constexpr const char* kRoles[] = {"verifier", "draft"};

// The phases of round_seconds{phase}.
constexpr struct {
  ObservationKind kind;
  const char* phase;
} kPhases[] = {
    {ObservationKind::kRound, "total"},          {ObservationKind::kRoundQueue, "queue"},
    {ObservationKind::kRoundPrefix, "prefix"},   {ObservationKind::kRoundExitHead, "exit_head"},
    {ObservationKind::kRoundSuffix, "suffix"},   {ObservationKind::kRoundSample, "sample"},
    {ObservationKind::kDraftRollout, "rollout"},
};

}  // namespace

SchedulerReportMetrics::SchedulerReportMetrics(telemetry::MetricRegistry* registry)
    : metrics_(registry) {
  for (const auto& [kind, phase] : kPhases) {
    for (const bool has_prompt : {false, true}) {
      if (has_prompt && kind == ObservationKind::kDraftRollout) continue;
      round_phases_[has_prompt][static_cast<size_t>(kind)] =
          metrics_.round_seconds.With({{"phase", phase}, {"prompts", has_prompt ? "yes" : "no"}});
    }
  }
  // A counter that is there from the start has a rate from the first increment on.
  ShowCounters({});
  ShowGauges({});
}

void SchedulerReportMetrics::OnReport(const scheduler::SchedulerReport& report) {
  ShowCounters(report.counters);
  ShowGauges(report.gauges);
  for (const scheduler::Observation& observation : report.observations) Observe(observation);
}

void SchedulerReportMetrics::ShowCounters(const scheduler::CoreCounters& counters) {
  const auto total = [](int64_t value) { return static_cast<double>(value); };
  metrics_.num_drafts.AdvanceTo(total(counters.num_drafts));
  metrics_.num_draft_tokens.AdvanceTo(total(counters.draft_tokens));
  metrics_.num_accepted_tokens.AdvanceTo(total(counters.accepted_tokens));
  for (size_t i = 0; i < counters.accepted_per_position.size(); ++i) {
    metrics_.num_accepted_tokens_per_pos.With({{"position", std::to_string(i)}})
        .AdvanceTo(total(counters.accepted_per_position[i]));
  }
  ShowBranches(counters);
  metrics_.num_preemptions.AdvanceTo(total(counters.preemptions));
  metrics_.prefix_cache_queries.AdvanceTo(total(counters.prefix_cache_queries));
  metrics_.prefix_cache_hits.AdvanceTo(total(counters.prefix_cache_hits));
  for (int i = 0; i < scheduler::kNumRejectReasons; ++i) {
    const char* reason = RejectReasonName(static_cast<scheduler::RejectReason>(i));
    metrics_.requests_rejected.With({{"reason", reason}})
        .AdvanceTo(total(counters.requests_rejected[i]));
  }
  for (int i = 0; i < 2; ++i) {
    metrics_.worker_lost.With({{"role", kRoles[i]}}).AdvanceTo(total(counters.workers_lost[i]));
  }
  for (int i = 0; i < scheduler::kNumDegradedReasons; ++i) {
    const char* reason = DegradedReasonName(static_cast<scheduler::DegradedReason>(i));
    metrics_.speculation_degraded_total.With({{"reason", reason}})
        .AdvanceTo(total(counters.degraded_total[i]));
  }
}

// The core counts hits by their depth; a histogram takes what has come since.
void SchedulerReportMetrics::ShowBranches(const scheduler::CoreCounters& counters) {
  const auto fallback = [&](MissFallback kind, int64_t rounds) {
    metrics_.fallback_rounds.With({{"kind", MissFallbackName(kind)}}).AdvanceTo(static_cast<double>(rounds));
  };
  fallback(MissFallback::kEmpty, counters.empty_windows);
  fallback(MissFallback::kNgram, counters.ngram_windows);
  fallback(MissFallback::kHold, counters.held_windows);
  for (int i = 0; i < scheduler::kNumBranchMissReasons; ++i) {
    const char* reason = BranchMissReasonName(static_cast<scheduler::BranchMissReason>(i));
    metrics_.branch_misses.With({{"reason", reason}})
        .AdvanceTo(static_cast<double>(counters.branch_misses[i]));
  }
  const std::vector<int64_t>& hits = counters.branch_hits_per_depth;
  int64_t all = 0;
  if (hits_shown_.size() < hits.size()) hits_shown_.resize(hits.size());
  for (size_t i = 0; i < hits.size(); ++i) {
    all += hits[i];
    metrics_.branch_hit_depth.Observe(static_cast<double>(i + 1), hits[i] - hits_shown_[i]);
    hits_shown_[i] = hits[i];
  }
  metrics_.branch_hits.AdvanceTo(static_cast<double>(all));
}

void SchedulerReportMetrics::ShowGauges(const scheduler::CoreGauges& gauges) {
  metrics_.num_requests_running.Set(gauges.num_requests_running);
  metrics_.num_requests_waiting.Set(gauges.num_requests_waiting);
  const double all = static_cast<double>(gauges.kv_blocks_total);
  metrics_.kv_cache_usage_ratio.Set(
      all > 0 ? static_cast<double>(gauges.kv_blocks_reserved) / all : 0);
  for (int i = 0; i < 2; ++i) {
    const int late = i == 1 ? gauges.drafts_late : 0;
    const int draining = gauges.workers_draining[i];
    const auto set = [&](const char* state, int count) {
      metrics_.workers_attached.With({{"role", kRoles[i]}, {"state", state}}).Set(count);
    };
    set("ready", gauges.workers_attached[i] - draining - late);
    set("draining", draining);
    set("late", late);
  }
  for (int i = 0; i < scheduler::kNumDegradedReasons; ++i) {
    const char* reason = DegradedReasonName(static_cast<scheduler::DegradedReason>(i));
    metrics_.speculation_degraded.With({{"reason", reason}}).Set(gauges.degraded[i] ? 1 : 0);
  }
}

void SchedulerReportMetrics::Observe(const scheduler::Observation& observation) {
  const double seconds = absl::ToDoubleSeconds(observation.value);
  for (int i = 0; i < observation.count; ++i) {
    // What the client sees (first token, between tokens, end to end) is the gateway's to measure.
    if (observation.kind == ObservationKind::kQueueTime) {
      metrics_.request_queue_time_seconds.Observe(seconds);
    } else if (observation.kind == ObservationKind::kVerifierWaitForDraft) {
      metrics_.verifier_wait_for_draft_seconds.Observe(seconds);
    } else if (observation.kind == ObservationKind::kEarlyExitRelay) {
      metrics_.early_exit_relay_seconds.Observe(seconds);
    } else {
      round_phases_[observation.has_prompt][static_cast<size_t>(observation.kind)].Observe(seconds);
    }
  }
}

}  // namespace mirrorsd::cell
