#pragma once
// The scheduler as a library: the actor that owns the core, the gRPC services whose streams become its
// events and carry out its actions, health and reflection. Decides nothing itself. Not a program:
// services/scheduler's main.cc has the command line and the signals.
// Thread rule: the methods from any thread; the observer is called on the actor's thread.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/core/core.h"
#include "services/journal/recorder.h"
#include "services/rpc/attach_server.h"
#include "services/rpc/submit_server.h"
#include "services/wire/cell_description.h"

namespace grpc {
class Channel;
}

namespace mirrorsd::scheduler {

// What the core has counted and measured, for metrics.
struct SchedulerReport {
  CoreCounters counters;  // since the start
  CoreGauges gauges;
  CoreHealth health;
  std::vector<Observation> observations;  // since the last report
};

class SchedulerObserver {
 public:
  virtual ~SchedulerObserver() = default;
  // After changes, at most every SchedulerServerOptions::report_interval, and once more at the end.
  virtual void OnReport(const SchedulerReport& report) = 0;
};

struct SchedulerServerOptions {
  // HOST:PORT (0: any port) or unix:/path; none: reached by InProcessChannel() only.
  std::vector<std::string> listen_addresses;
  CoreConfig core;  // scheduler_epoch and, where empty, the policies are filled in
  rpc::AttachServerOptions attach;
  rpc::SubmitServerOptions submit;
  size_t mailbox_capacity = 65536;  // messages: one stream's message is one
  absl::Duration report_interval = absl::Milliseconds(50);
  SchedulerObserver* observer = nullptr;  // outlives the server
  journal::RecorderOptions journal;
};

class SchedulerServer {
 public:
  // Errors: INVALID_FIELD("listen_addresses[i]") where an address cannot be had; BAD_FILE for the journal.
  static absl::StatusOr<std::unique_ptr<SchedulerServer>> Start(SchedulerServerOptions options);
  ~SchedulerServer();  // stops
  SchedulerServer(const SchedulerServer&) = delete;
  SchedulerServer& operator=(const SchedulerServer&) = delete;

  // One per listen address, as bound; 0 for a unix one.
  const std::vector<int>& ports() const;
  std::shared_ptr<grpc::Channel> InProcessChannel();

  // Asks the actor. Errors: UNAVAILABLE when it does not answer in time.
  absl::StatusOr<CellDescription> Describe(absl::Duration timeout);
  // As last told to the health service.
  bool ready() const;

  // Where the journal goes; empty without one.
  std::string journal_path() const;
  // The last events, for stories (services/journal/recorder.h): the path of a new file.
  absl::StatusOr<std::string> DumpRing(const std::string& reason);

  // Not ready, no new requests; live ones go on.
  void Drain();
  // Whether no request lives any more, waiting up to `timeout` for it. After Drain().
  bool WaitUntilDrained(absl::Duration timeout);

  // Ends all streams (UNAVAILABLE, retryable) and threads. Idempotent.
  void Stop();

 private:
  class State;
  explicit SchedulerServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace mirrorsd::scheduler
