#pragma once
// Time as an argument. Monotonic only: nothing in the engine may depend on the date.

#include <cstdint>

namespace mirrorsd::engine {

class Clock {
 public:
  virtual ~Clock() = default;
  // Never decreases. Units: nanoseconds of CLOCK_MONOTONIC. Callable from any thread.
  virtual int64_t NowNs() = 0;
};

// The machine's own; lives as long as the process.
Clock& MonotonicClock();

}  // namespace mirrorsd::engine
