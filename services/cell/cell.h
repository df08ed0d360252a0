#pragma once
// A whole cell in one process: scheduler, verifier-worker, draft-worker and gateway, the same role libraries
// that the separate programs link, wired by in-process channels. There is no second way through: a request
// takes every station that it takes between processes. Not a supervisor of children (supervisor.h).
// Thread rule: the methods from any thread.

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/cell/scheduler_report_metrics.h"
#include "services/draft/draft_worker.h"
#include "services/gateway/gateway_server.h"
#include "services/scheduler/scheduler_server.h"
#include "services/telemetry/metrics.h"
#include "services/verifier/verifier_worker.h"

namespace mirrorsd::cell {

struct CellOptions {
  scheduler::SchedulerServerOptions scheduler;
  verifier::VerifierWorkerOptions verifier;
  std::optional<draft::DraftWorkerOptions> draft;
  gateway::GatewayServerOptions gateway;  // its `scheduler` and `metrics` are filled in
};

class Cell {
 public:
  // Reads the model folders, which takes its time. `metrics` outlives the cell.
  // Errors:  those of the role libraries
  static absl::StatusOr<std::unique_ptr<Cell>> Start(CellOptions options,
                                                     telemetry::MetricRegistry* metrics);
  ~Cell();
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;

  // Waits until requests can be served with all the speculation there is: every worker has attached.
  // Errors:  a worker that was refused for good; UNAVAILABLE after `timeout`
  absl::Status WaitUntilReady(absl::Duration timeout);

  // The end of a worker that will not come back, if there was one.
  absl::Status WorkerFailure();

  gateway::GatewayServer& gateway() { return *gateway_; }
  const gateway::GatewayServer& gateway() const { return *gateway_; }
  scheduler::SchedulerServer& scheduler() { return *scheduler_; }
  const verifier::VerifierWorker& verifier() const { return *verifier_; }
  const draft::DraftWorker* draft() const { return draft_.get(); }

  // What the workers tell of devices that they emulate and of scripts that they follow; part of /metrics.
  void ShowEmulation(telemetry::MetricRegistry* registry) const;

  // Not ready, no new requests; returns once no request lives or `timeout` has passed.
  void Drain(absl::Duration timeout);

 private:
  explicit Cell(telemetry::MetricRegistry* metrics) : report_metrics_(metrics) {}

  SchedulerReportMetrics report_metrics_;
  std::unique_ptr<scheduler::SchedulerServer> scheduler_;
  std::unique_ptr<verifier::VerifierWorker> verifier_;
  std::unique_ptr<draft::DraftWorker> draft_;
  std::unique_ptr<gateway::GatewayServer> gateway_;
};

}  // namespace mirrorsd::cell
