#pragma once
// What both modelled workers have in common: they take commands in order, compute one pass at a time on a device
// of a profile, and report. One object is one attachment for a whole simulation: nothing fails here (faults
// are tests/sim's business). Not thread-safe; the simulation owns workers and outlives what they plan.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/worker_messages.h"
#include "scheduler/core/events.h"
#include "tools/simulate/fleet/event_queue.h"
#include "tools/simulate/fleet/pass_timer.h"
#include "tools/simulate/model/text_model.h"
#include "workers/pacing/device_profile.h"

namespace mirrorsd::simulate {

inline constexpr int32_t kBlockTokens = 16;
inline constexpr int32_t kContextTokens = 1 << 20;

struct WorkerSpec {
  std::string name;
  pacing::DeviceProfile profile;
  WorkerLimits limits;
  int64_t kv_tokens = 0;     // of its pool
  int64_t host_ns = 0;       // the process's own time for each pass, before and after it in equal parts
  int64_t one_way_ns = 0;    // a message between it and the scheduler
  int32_t exit_layer = 0;    // verifier: where its pass is cut for a round that asks for an exit report
  int32_t chunk_tokens = 0;  // draft: rows of one step of catching up
  int32_t catch_up_every = 0;  // draft: depths of rollouts after which a step comes first; 0: only where none roll
};

// One message's reports; they reach the scheduler together.
using Reports = std::vector<scheduler::ReportItem>;
using Report = std::function<void(Reports)>;

// What came of a worker's time.
struct WorkerTimes {
  int64_t passes = 0;
  int64_t rows = 0;
  int64_t busy_ns = 0;
};

class Worker {
 public:
  Worker(WorkerSpec spec, const TextModel* text, EventQueue* queue, Report report)
      : spec_(std::move(spec)),
        text_(text),
        queue_(queue),
        timer_(spec_.profile),
        report_(std::move(report)) {}
  virtual ~Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // The commands of one message arrive.
  virtual void Receive(std::vector<WorkerCommand> commands) = 0;
  Hello MakeHello(WorkerRole role) const;
  KvBlocks Blocks() const { return {total_blocks(), std::max<int64_t>(0, total_blocks() - used_blocks_), 0}; }
  const WorkerSpec& spec() const { return spec_; }
  const WorkerTimes& times() const { return times_; }

 protected:
  int64_t total_blocks() const { return spec_.kv_tokens / kBlockTokens; }
  static int64_t BlocksOf(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }
  // Reports leave now and arrive a way later.
  void Say(Reports reports) {
    queue_->At(queue_->now_ns() + spec_.one_way_ns,
               [this, reports = std::move(reports)]() mutable { report_(std::move(reports)); });
  }

  const WorkerSpec spec_;
  const TextModel* const text_;
  EventQueue* const queue_;
  PassTimer timer_;
  int64_t used_blocks_ = 0;
  WorkerTimes times_;

 private:
  Report report_;
};

}  // namespace mirrorsd::simulate
