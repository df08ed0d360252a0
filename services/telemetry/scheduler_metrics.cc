#include "services/telemetry/scheduler_metrics.h"

namespace mirrorsd::telemetry {

SchedulerMetrics::SchedulerMetrics(MetricRegistry* registry) {
  const Labels role = {{"role", "scheduler"}};
  const auto counter = [&](const char* name, const char* help) {
    return registry->Counters(name, help, role).With({});
  };
  const auto gauge = [&](const char* name, const char* help) {
    return registry->Gauges(name, help, role).With({});
  };
  num_drafts = counter("spec_decode_num_drafts_total", "Windows of draft tokens that were verified.");
  num_draft_tokens =
      counter("spec_decode_num_draft_tokens_total", "Draft tokens that were verified.");
  num_accepted_tokens = counter("spec_decode_num_accepted_tokens_total",
                                "Draft tokens that equalled the target's own.");
  num_accepted_tokens_per_pos =
      registry->Counters("spec_decode_num_accepted_tokens_per_pos_total",
                         "Accepted draft tokens by their position in the window.", role);
  branch_hits = counter("branch_hits_total",
                        "Rounds of a sequence that began with the tokens of a predicted outcome.");
  branch_hit_depth = registry
                         ->Histograms("branch_hit_depth", "Tokens that were ready at a branch hit.",
                                      BranchDepthBuckets(), role)
                         .With({});
  branch_misses = registry->Counters(
      "branch_misses_total", "Rounds of a sequence for which no branch had tokens, by reason.", role);
  fallback_rounds = registry->Counters(
      "fallback_rounds_total", "Rounds of a sequence without a draft's window in time, by what they began with.",
      role);
  early_exit_relay_seconds =
      registry
          ->Histograms("early_exit_relay_seconds",
                       "Time from an early-exit report to its first rollout, where both are on one host.",
                       RelaySecondsBuckets(), role)
          .With({});
  verifier_wait_for_draft_seconds =
      registry
          ->Histograms("verifier_wait_for_draft_seconds",
                       "Time that a free verifier waited for windows of the draft.",
                       RoundSecondsBuckets(), role)
          .With({});
  round_seconds = registry->Histograms("round_seconds", "Time of a round at the verifier by phase.",
                                       RoundSecondsBuckets(), role);
  request_queue_time_seconds =
      registry
          ->Histograms("request_queue_time_seconds",
                       "Time from submission to the start at a verifier.", RequestSecondsBuckets(),
                       role)
          .With({});
  num_requests_running = gauge("num_requests_running", "Requests that a verifier works on.");
  num_requests_waiting = gauge("num_requests_waiting", "Requests that wait for admission.");
  kv_cache_usage_ratio =
      gauge("kv_cache_usage_ratio", "KV blocks of the verifiers in use over all, 0 to 1.");
  num_preemptions = counter("num_preemptions_total",
                            "Sequences that gave up their KV blocks, to be computed again later.");
  prefix_cache_queries =
      counter("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.");
  prefix_cache_hits = counter("prefix_cache_hits_total", "Prompt tokens found in the prefix cache.");
  requests_rejected = registry->Counters(
      "requests_rejected_total", "Requests refused before any work, by reason.", role);
  workers_attached = registry->Gauges("workers_attached", "Attached workers by role and state.");
  worker_lost = registry->Counters("worker_lost_total", "Workers lost without a drain, by role.");
  speculation_degraded = registry->Gauges(
      "speculation_degraded", "1 while speculation is impaired for the reason, else 0.", role);
  speculation_degraded_total =
      registry->Counters("speculation_degraded_total",
                         "Times that speculation became impaired, by reason.", role);
}

}  // namespace mirrorsd::telemetry
