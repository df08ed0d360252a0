#pragma once
// The gateway's metrics by name: what a client sees. `requests_total` is counted here alone, once per
// request that was accepted, when its stream ends. Thread-safe as metrics.h says.

#include "services/telemetry/metrics.h"

namespace mirrorsd::telemetry {

struct GatewayMetrics {
  explicit GatewayMetrics(MetricRegistry* registry);  // all carry role="gateway"

  CounterFamily requests;             // finish_reason: stop, length, cancelled, error
  CounterFamily requests_rejected;    // reason: the ErrorInfo's, e.g. INVALID_FIELD
  Counter tokens_generated;           // delivered tokens
  Counter prompt_tokens;
  Gauge streams_open;
  Histogram time_to_first_token_seconds;
  Histogram inter_token_latency_seconds;
  Histogram request_time_per_output_token_seconds;
  Histogram e2e_request_latency_seconds;
};

// build_info{version, role}: a constant 1.
void AddBuildInfo(MetricRegistry* registry, const std::string& role, const std::string& version);

}  // namespace mirrorsd::telemetry
