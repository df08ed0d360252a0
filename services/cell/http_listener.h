#pragma once
// The HTTP listener of a process of ours, by its options. Thread rule: http_server.h's.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/config/options.h"
#include "services/gateway/gateway_server.h"
#include "services/http/health_routes.h"
#include "services/http/http_server.h"
#include "services/telemetry/metrics.h"

namespace mirrorsd::cell {

// No server where `address` is empty.
absl::StatusOr<std::unique_ptr<http::HttpServer>> StartHttp(const config::Options& options,
                                                            const std::string& address,
                                                            http::HealthRoutesOptions health);

// This process's metrics joined with those that the processes at `others` show; one that does not answer
// is left out. `registry` outlives the function.
std::function<std::string()> JoinedMetrics(const telemetry::MetricRegistry* registry,
                                           std::vector<std::string> others);

http::Readiness ReadinessOf(const gateway::GatewayServer& gateway);

}  // namespace mirrorsd::cell
