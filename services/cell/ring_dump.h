#pragma once
// SIGUSR1 to the process that runs a scheduler: its last events go to a file, for mirrorsd-replay --story.
// The scheduler goes on. Thread-safe.

#include "services/cell/signals.h"
#include "services/scheduler/scheduler_server.h"

namespace mirrorsd::cell {

// As long as it lives. `scheduler` outlives it.
class RingDumpOnSignal {
 public:
  explicit RingDumpOnSignal(scheduler::SchedulerServer* scheduler);

 private:
  SignalWatch watch_;
};

}  // namespace mirrorsd::cell
