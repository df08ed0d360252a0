#pragma once
// Where generate and chat find someone to answer: the cell at --server, or one in this process. One code path
// from there on. Thread rule: one thread, but for client().Cancel.

#include <memory>

#include "absl/status/statusor.h"
#include "services/cell/cell.h"
#include "services/cli/inference_client.h"
#include "services/config/options.h"
#include "services/telemetry/metrics.h"

namespace mirrorsd::cli {

class Answerer {
 public:
  // With --server, dials; else reads the models of --model and --draft-model and starts a cell, whose
  // requests go through the gateway, the scheduler and the workers.
  // Errors:  UsageError where neither is given; those of Cell
  static absl::StatusOr<std::unique_ptr<Answerer>> Make(const config::Options& options);

  InferenceClient& client() { return *client_; }

 private:
  Answerer() = default;

  telemetry::MetricRegistry metrics_;
  std::unique_ptr<cell::Cell> cell_;
  std::unique_ptr<InferenceClient> client_;
};

}  // namespace mirrorsd::cli
