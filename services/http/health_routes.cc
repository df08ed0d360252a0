#include "services/http/health_routes.h"

#include <utility>

namespace mirrorsd::http {

void AddHealthRoutes(HealthRoutesOptions options, Router* router) {
  router->AddSimple("GET", "/livez", [](const Request&) { return Response{.body = "alive\n"}; });
  router->AddSimple("GET", "/readyz", [readiness = options.readiness](const Request&) {
    const Readiness now = readiness();
    if (now.ready) return Response{.body = "ready\n"};
    return Response{.status = 503, .body = "not ready: " + now.reason + "\n"};
  });
  router->AddSimple("GET", "/metrics", [metrics = std::move(options.metrics)](const Request&) {
    return Response{.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics()};
  });
}

}  // namespace mirrorsd::http
