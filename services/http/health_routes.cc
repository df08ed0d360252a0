#include "services/http/health_routes.h"

#include <utility>

#include "absl/time/time.h"
#include "services/http/http_server.h"
#include "services/telemetry/metrics.h"

namespace mirrorsd::http {
namespace {

// A process that does not answer is left out: its own metrics are gone with it, ours are not.
constexpr absl::Duration kRelayTimeout = absl::Milliseconds(500);

std::string CollectMetrics(const HealthRoutesOptions& options) {
  std::vector<std::string> texts = {options.metrics()};
  for (const std::string& address : options.metrics_from) {
    absl::StatusOr<Response> answer = HttpGet(address, "/metrics", kRelayTimeout);
    if (answer.ok() && answer->status == 200) texts.push_back(std::move(answer->body));
  }
  return telemetry::MergeExpositions(texts);
}

}  // namespace

void AddHealthRoutes(HealthRoutesOptions options, Router* router) {
  router->AddSimple("GET", "/livez", [](const Request&) { return Response{.body = "alive\n"}; });
  router->AddSimple("GET", "/readyz", [readiness = options.readiness](const Request&) {
    const Readiness now = readiness();
    if (now.ready) return Response{.body = "ready\n"};
    return Response{.status = 503, .body = "not ready: " + now.reason + "\n"};
  });
  router->AddSimple("GET", "/metrics", [options = std::move(options)](const Request&) {
    return Response{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                    .body = CollectMetrics(options)};
  });
}

}  // namespace mirrorsd::http
