#pragma once
// How long to wait before trying again: doubling from `first` to `most`, each wait drawn from the upper
// half of its step so that many who lost the same peer do not return in one instant. Not a timer: it only
// names durations. Randomness comes from outside. One thread.

#include <cstdint>
#include <functional>

#include "absl/time/time.h"

namespace mirrorsd::runtime {

struct BackoffOptions {
  absl::Duration first = absl::Milliseconds(50);
  absl::Duration most = absl::Seconds(2);
};

class Backoff {
 public:
  // `random` yields any 64 bits on each call.
  Backoff(BackoffOptions options, std::function<uint64_t()> random);

  // The wait before the next try, in [step / 2, step].
  absl::Duration Next();

  // After a success: the next wait is a first one again.
  void Reset();

 private:
  const BackoffOptions options_;
  const std::function<uint64_t()> random_;
  absl::Duration step_;
};

}  // namespace mirrorsd::runtime
