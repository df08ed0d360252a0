#pragma once
// The actor that owns the core: what comes from the streams becomes events, the core's actions go back to
// the streams, deadlines become TimePassed. Every event passes one place. It decides nothing itself.
// Thread rule: the handlers' methods from gRPC's threads; Start, Stop and the rest from any other; the
// actions are carried out on the actor's thread.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/core/core.h"
#include "services/journal/recorder.h"
#include "services/rpc/attach_server.h"
#include "services/rpc/submit_server.h"
#include "services/runtime/actor.h"
#include "services/scheduler/fleet_view.h"
#include "services/scheduler/inbox.h"
#include "services/scheduler/scheduler_server.h"

namespace mirrorsd::scheduler {

class SchedulerActor final : public rpc::AttachHandler, public rpc::SubmitHandler {
 public:
  // `on_ready` is called on the actor's thread when readiness changes. `recorder` is of options.core.
  SchedulerActor(const SchedulerServerOptions& options,
                 std::unique_ptr<journal::Recorder> recorder, std::function<void(bool)> on_ready);
  ~SchedulerActor() override;

  rpc::AttachServer& attach() { return attach_; }
  rpc::SubmitServer& submit() { return submit_; }

  void Start();
  void Stop();
  void Drain();
  bool WaitUntilDrained(absl::Duration timeout);
  bool ready() const { return ready_.load(); }
  journal::Recorder& recorder() { return *recorder_; }

  bool OnHello(ConnectionId connection, Hello hello) override;
  bool OnReports(ConnectionId connection, Fence fence,
                 std::vector<WorkerReport> reports, rpc::Receipt receipt) override;
  void OnDetached(ConnectionId connection, const std::string& reason) override;
  bool OnSubmit(ConnectionId stream, SubmitRequest request) override;
  void OnCancelled(ConnectionId stream) override;
  bool OnDescribe(std::function<void(const CellDescription*)> reply) override;

 private:
  void Take(Inbound&& inbound);
  void TakeBatch(WorkerBatch batch);
  void Step(const Event& event);
  void Perform();
  void PerformForWorkers(std::vector<ConnectionId>* queue_full);
  void PerformForStreams();
  void AfterStep(absl::Time now);
  void Report();
  CellDescription Describe() const;

  const uint64_t scheduler_epoch_;
  const SpeculationMode speculation_;
  const int32_t num_speculative_tokens_;
  const absl::Duration report_interval_;
  SchedulerObserver* const observer_;
  const std::function<void(bool)> on_ready_;

  // The actor's own.
  const std::unique_ptr<journal::Recorder> recorder_;
  Core core_;
  FleetView fleet_;
  absl::Time now_;
  absl::Time report_at_ = absl::InfiniteFuture();
  std::vector<Action> actions_;
  std::vector<ConnectionId> to_flush_;

  std::atomic<bool> ready_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool drained_ = false;  // guarded by mutex_

  rpc::AttachServer attach_;
  rpc::SubmitServer submit_;
  runtime::Actor<Inbound> actor_;
};

}  // namespace mirrorsd::scheduler
