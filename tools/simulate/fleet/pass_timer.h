#pragma once
// How long a modelled device takes for a pass: the same pacer that makes a real worker as slow as a profile
// (workers/pacing), on a clock that only it moves. So a simulated pass and a paced one of the same shape take the
// same time, jitter included. Not thread-safe.

#include <cstdint>

#include "workers/pacing/device_pacer.h"
#include "workers/pacing/device_profile.h"

namespace mirrorsd::simulate {

struct PassRows {
  int32_t rows = 0;
  int32_t logits_rows = 0;
  int32_t exit_rows = 0;  // of them, those that the exit head computes
  int64_t kv_tokens = 0;
};

// When the parts of a pass are over, in virtual time.
struct PassTimes {
  int64_t prefix_ns = 0;  // layers [0, exit layer)
  int64_t exit_ns = 0;    // the exit head's results are at the host; == prefix_ns without one
  int64_t end_ns = 0;
};

class PassTimer {
 public:
  explicit PassTimer(const pacing::DeviceProfile& profile) : pacer_(profile, &clock_) {}

  const pacing::DeviceProfile& profile() const { return pacer_.profile(); }
  // `exit_layer` 0: the pass is not cut.
  PassTimes Run(int64_t begin_ns, const PassRows& rows, int32_t exit_layer);

 private:
  class Clock final : public pacing::PacingClock {
   public:
    int64_t NowNs() override { return now_ns; }
    void SleepUntilNs(int64_t deadline_ns) override { now_ns = deadline_ns; }
    int64_t now_ns = 0;
  };
  Clock clock_;
  pacing::DevicePacer pacer_;
};

}  // namespace mirrorsd::simulate
