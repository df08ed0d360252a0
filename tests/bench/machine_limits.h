#pragma once
// What this machine can do at best, measured now: the yardstick of the op benchmarks.

#include <cstdint>

namespace mirrorsd::engine {

struct MachineLimits {
  double read_gb_per_s = 0;    // reading memory far larger than the caches
  double fma_gflop_per_s = 0;  // float32 multiply-adds on registers, two operations each
};

// The best of several tries, half a second or so in all, on `num_threads` threads.
MachineLimits MeasureMachineLimits(int32_t num_threads);

}  // namespace mirrorsd::engine
