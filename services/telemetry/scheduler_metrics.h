#pragma once
// The scheduler's metrics by name (the table in docs and DESIGN section 13). Who owns the core moves
// them; nothing here decides anything. Counters that the core keeps as totals are raised with
// Counter::AdvanceTo. Thread-safe as metrics.h says.

#include "services/telemetry/metrics.h"

namespace mirrorsd::telemetry {

struct SchedulerMetrics {
  // All carry role="scheduler"; where a metric has a `role` of its own, that is the worker's.
  explicit SchedulerMetrics(MetricRegistry* registry);

  Counter num_drafts;           // windows that were verified and not empty
  Counter num_draft_tokens;
  Counter num_accepted_tokens;
  CounterFamily num_accepted_tokens_per_pos;  // position
  Counter branch_hits;          // rounds that began with the tokens of a predicted outcome
  Histogram branch_hit_depth;   // how many tokens these were
  CounterFamily branch_misses;  // reason: not_predicted, not_drafted, not_ready
  CounterFamily fallback_rounds;              // kind: empty, ngram, hold
  Histogram early_exit_relay_seconds;         // exit report sent to its first rollout begun, on one host
  Histogram verifier_wait_for_draft_seconds;
  // phase: queue, prefix, exit_head, suffix, sample, total, rollout; prompts: whether the round had prompt tokens
  HistogramFamily round_seconds;
  Histogram request_queue_time_seconds;
  Gauge num_requests_running;
  Gauge num_requests_waiting;
  Gauge kv_cache_usage_ratio;                 // blocks in use / all, over the attached verifiers
  Counter num_preemptions;                    // sequences that gave up their blocks to older ones
  Counter prefix_cache_queries;               // prompt tokens looked up
  Counter prefix_cache_hits;                  // of these, found
  CounterFamily requests_rejected;            // reason
  GaugeFamily workers_attached;               // role, state
  CounterFamily worker_lost;                  // role
  GaugeFamily speculation_degraded;           // reason; 0 or 1
  CounterFamily speculation_degraded_total;   // reason
};

}  // namespace mirrorsd::telemetry
