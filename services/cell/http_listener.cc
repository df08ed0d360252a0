#include "services/cell/http_listener.h"

#include <utility>

namespace mirrorsd::cell {
namespace {

constexpr absl::Duration kRelayTimeout = absl::Milliseconds(500);

}  // namespace

absl::StatusOr<std::unique_ptr<http::HttpServer>> StartHttp(const config::Options& options,
                                                            const std::string& address,
                                                            http::HealthRoutesOptions health) {
  if (address.empty()) return std::unique_ptr<http::HttpServer>();
  http::Router router;
  http::AddHealthRoutes(std::move(health), &router);
  http::HttpServerOptions server;
  server.address = address;
  server.max_connections = static_cast<size_t>(options.Integer("max-http-connections"));
  return http::HttpServer::Start(std::move(server), std::move(router));
}

std::function<std::string()> JoinedMetrics(const telemetry::MetricRegistry* registry,
                                           std::vector<std::string> others) {
  return [registry, others = std::move(others)] {
    std::vector<std::string> texts = {registry->Serialize()};
    for (const std::string& address : others) {
      auto answer = http::HttpGet(address, "/metrics", kRelayTimeout);
      if (answer.ok() && answer->status == 200) texts.push_back(std::move(answer->body));
    }
    return telemetry::MergeExpositions(texts);
  };
}

http::Readiness ReadinessOf(const gateway::GatewayServer& gateway) {
  const gateway::GatewayReadiness readiness = gateway.readiness();
  return {readiness.ready, readiness.reason};
}

}  // namespace mirrorsd::cell
