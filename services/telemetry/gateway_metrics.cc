#include "services/telemetry/gateway_metrics.h"

namespace mirrorsd::telemetry {

GatewayMetrics::GatewayMetrics(MetricRegistry* registry) {
  const Labels role = {{"role", "gateway"}};
  const auto histogram = [&](const char* name, const char* help, std::vector<double> buckets) {
    return registry->Histograms(name, help, std::move(buckets), role).With({});
  };
  requests = registry->Counters("requests_total", "Requests that ended, by finish reason.", role);
  for (const char* reason : {"stop", "length", "cancelled", "error"}) {
    requests.With({{"finish_reason", reason}});
  }
  requests_rejected = registry->Counters("requests_rejected_total",
                                         "Requests refused before any work, by reason.", role);
  tokens_generated =
      registry->Counters("tokens_generated_total", "Tokens delivered to clients.", role).With({});
  prompt_tokens =
      registry->Counters("prompt_tokens_total", "Prompt tokens of accepted requests.", role)
          .With({});
  streams_open =
      registry->Gauges("streams_open", "Generate streams that are open at the gateway.", role)
          .With({});
  time_to_first_token_seconds =
      histogram("time_to_first_token_seconds", "Time from a request to its first token.",
                RequestSecondsBuckets());
  inter_token_latency_seconds =
      histogram("inter_token_latency_seconds",
                "Time between tokens; tokens of one round share its time.", RoundSecondsBuckets());
  request_time_per_output_token_seconds =
      histogram("request_time_per_output_token_seconds",
                "Time per output token after the first, by request.", RoundSecondsBuckets());
  e2e_request_latency_seconds =
      histogram("e2e_request_latency_seconds", "Time from a request to its end.",
                RequestSecondsBuckets());
}

void AddBuildInfo(MetricRegistry* registry, const std::string& role, const std::string& version) {
  registry->Gauges("build_info", "What runs here; always 1.", {{"role", role}})
      .With({{"version", version}})
      .Set(1);
}

}  // namespace mirrorsd::telemetry
