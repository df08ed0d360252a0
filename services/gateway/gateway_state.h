#pragma once
// What the gateway's service and its streams share. Plain data with thread-safe parts; it lives until the last
// stream is gone.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <random>

#include "absl/time/time.h"
#include "services/gateway/cell_watch.h"
#include "services/gateway/model_text.h"
#include "services/rpc/submit_client.h"
#include "services/telemetry/gateway_metrics.h"

namespace mirrorsd::gateway {

struct GatewayLimits {
  int max_concurrent_requests = 1024;
  size_t max_stream_buffer_tokens = 4096;  // not yet taken by a client
  absl::Duration slow_client_grace = absl::Seconds(5);
};

class RandomWords {
 public:
  uint64_t Next() {
    std::lock_guard<std::mutex> lock(mutex_);
    return words_();
  }

 private:
  std::mutex mutex_;
  std::mt19937_64 words_{(uint64_t{std::random_device()()} << 32) ^ std::random_device()()};
};

struct GatewayState {
  GatewayState(ModelText model, GatewayLimits limits, telemetry::MetricRegistry* registry)
      : model(std::move(model)), limits(limits), metrics(registry) {}

  const ModelText model;
  const GatewayLimits limits;
  const telemetry::GatewayMetrics metrics;
  RandomWords random;
  std::unique_ptr<rpc::SubmitClient> scheduler;
  std::unique_ptr<CellWatch> watch;
  std::atomic<int> num_requests{0};  // Generate streams that are open, refused ones until they are gone
  std::atomic<int> num_places_taken{0};  // of max_concurrent_requests; a refused stream has none
  std::atomic<bool> draining{false};
};

}  // namespace mirrorsd::gateway
