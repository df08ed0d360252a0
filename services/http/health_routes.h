#pragma once
// /livez, /readyz and /metrics of a process. Ready means that work can be done and gets done (the scheduler's
// view of progress), not that sockets are open. Not the gRPC health service.
// The functions are called on the HTTP server's threads and must be thread-safe.

#include <functional>
#include <string>

#include "services/http/router.h"

namespace mirrorsd::http {

struct Readiness {
  bool ready = false;
  std::string reason;  // why not, for people
};

struct HealthRoutesOptions {
  std::function<Readiness()> readiness;
  std::function<std::string()> metrics;  // Prometheus text
};

void AddHealthRoutes(HealthRoutesOptions options, Router* router);

}  // namespace mirrorsd::http
