#pragma once
// What this machine's processors can do at best, measured now: the yardstick of benchmarks. Measured beside
// what is judged by it, again and again, since others may use the machine. Not part of any pass.
// Thread rule: one thread uses a meter; its own threads are inside.

#include <cstdint>
#include <memory>

#include "workers/engine/tensor/thread_pool.h"

namespace mirrorsd::engine {

struct MachineLimits {
  double read_gb_per_s = 0;    // reading memory far larger than the caches
  double fma_gflop_per_s = 0;  // float32 multiply-adds on registers, two operations each
};

class LimitsMeter {
 public:
  // `read_bytes` is what a reading goes through: well above the last cache.
  explicit LimitsMeter(int32_t num_threads, int64_t read_bytes = int64_t{256} << 20);

  // One try of each, a few hundredths of a second.
  MachineLimits Measure();

 private:
  double ReadGbPerS();
  double FmaGflopPerS();

  ThreadPool pool_;
  int64_t num_elements_;
  std::shared_ptr<void> memory_;
};

// The best of several tries, half a second or so in all, on `num_threads` threads.
MachineLimits MeasureMachineLimits(int32_t num_threads);

}  // namespace mirrorsd::engine
