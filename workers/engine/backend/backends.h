#pragma once
// The registry of backends: the one place that knows which devices this build has. Nothing else in the
// tree asks. Callable from any thread.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "workers/engine/backend/backend.h"

namespace mirrorsd::engine {

struct BackendOptions {
  int32_t num_threads = 0;  // on the host, the caller included; 0: one per processor this process may use
};

struct BackendInfo {
  std::string name;         // what CreateBackend takes
  std::string description;  // for people
  bool available = false;   // it can be created here, now
  std::string detail;       // devices and ISA target, or why it is not available
};

// In order of preference for people who do not choose; every backend of this build, available or not.
std::vector<BackendInfo> RegisteredBackends();

// Errors: INVALID_FIELD (--backend, num_threads) naming the registered ones; UNAVAILABLE with the
//         reason NO_DEVICE where the device or its driver is missing.
absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(absl::string_view name,
                                                       const BackendOptions& options = {});

}  // namespace mirrorsd::engine
