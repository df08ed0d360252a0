#include "workers/engine/tensor/clock.h"

#include <time.h>

namespace mirrorsd::engine {
namespace {

class SystemClock final : public Clock {
 public:
  int64_t NowNs() override {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }
};

}  // namespace

Clock& MonotonicClock() {
  static SystemClock* const clock = new SystemClock;
  return *clock;
}

}  // namespace mirrorsd::engine
