#pragma once
// A clock that can also be waited on. Time as an argument, so that tests need none of it.

#include <cstdint>

#include "workers/engine/tensor/clock.h"

namespace mirrorsd::pacing {

class PacingClock : public engine::Clock {
 public:
  // Returns as soon after `deadline_ns` of NowNs() as it can, never before; at once where that has passed.
  virtual void SleepUntilNs(int64_t deadline_ns) = 0;
};

// CLOCK_MONOTONIC and the system's absolute sleep, with the calling thread's timer slack taken down to the
// least (the default adds 50 us to every sleep). A sleep ends some 30 us late on a virtual machine: it aims so much
// early and spins for what is left, never longer than that, since another worker may need the core. Lives
// as long as the process; callable from any thread.
PacingClock& HostPacingClock();

}  // namespace mirrorsd::pacing
