#include "workers/pacing/pacing_clock.h"

#include <sys/prctl.h>
#include <time.h>

#include <cerrno>

namespace mirrorsd::pacing {
namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr int64_t kAimEarlyNs = 30'000;  // the tenth percentile of how late a sleep ends here

class HostClock final : public PacingClock {
 public:
  int64_t NowNs() override { return engine::MonotonicClock().NowNs(); }

  void SleepUntilNs(int64_t deadline_ns) override {
    // Once for each thread that sleeps here; where it is not allowed, sleeps are 50 us longer.
    thread_local const int slack = prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    (void)slack;
    const int64_t aim_ns = deadline_ns - kAimEarlyNs;
    const timespec until{.tv_sec = static_cast<time_t>(aim_ns / kNanosPerSecond),
                         .tv_nsec = static_cast<long>(aim_ns % kNanosPerSecond)};  // NOLINT
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
    while (NowNs() < deadline_ns) {
    }
  }
};

}  // namespace

PacingClock& HostPacingClock() {
  static HostClock* const clock = new HostClock;
  return *clock;
}

}  // namespace mirrorsd::pacing
