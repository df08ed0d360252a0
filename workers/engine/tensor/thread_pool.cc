#include "workers/engine/tensor/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "common/check.h"

namespace mirrorsd::engine {
namespace {

// About 50 microseconds of pauses.
constexpr int32_t kSpinsBeforeSleep = 2000;
constexpr int32_t kSpinsBeforeYield = 1000;
// More chunks than threads, so that the ends of a loop even out.
constexpr int64_t kChunksPerThread = 4;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

int32_t NumUsableProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int32_t num_threads) {
  CHECK_GE(num_threads, 0);
  if (num_threads == 0) num_threads = NumUsableProcessors();
  threads_.reserve(static_cast<size_t>(num_threads - 1));
  for (int32_t thread = 1; thread < num_threads; ++thread) {
    threads_.emplace_back([this, thread] { WorkerMain(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  num_jobs_.fetch_add(1);
  WakeSleepers();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::ParallelFor(int64_t n, int64_t grain, Body body) {
  CHECK_GE(grain, 1);
  if (n <= 0) return;
  if (n <= grain || threads_.empty()) {
    body(0, n, 0);
    return;
  }
  const int64_t max_chunks = kChunksPerThread * num_threads();
  const int64_t chunk = CeilDiv(CeilDiv(n, max_chunks), grain) * grain;
  const int64_t num_chunks = CeilDiv(n, chunk);

  job_ = {&body, n, chunk};
  num_done_.store(0, std::memory_order_relaxed);
  claims_.store(static_cast<uint64_t>(num_chunks) << 32, std::memory_order_release);
  num_jobs_.fetch_add(1);  // sequentially consistent, as is num_sleeping_: see WaitForJob
  if (num_sleeping_.load() > 0) WakeSleepers();

  RunChunks(0);
  int32_t spins = 0;
  while (num_done_.load(std::memory_order_acquire) != num_chunks) {
    if (++spins < kSpinsBeforeYield) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::RunChunks(int32_t thread) {
  uint64_t claim = claims_.load(std::memory_order_acquire);
  while (true) {
    const uint32_t next = static_cast<uint32_t>(claim);
    if (next >= static_cast<uint32_t>(claim >> 32)) return;
    if (!claims_.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    const int64_t begin = int64_t{next} * job_.chunk;
    (*job_.body)(begin, std::min(begin + job_.chunk, job_.n), thread);
    num_done_.fetch_add(1, std::memory_order_release);
    claim = claims_.load(std::memory_order_acquire);
  }
}

void ThreadPool::WorkerMain(int32_t thread) {
  uint64_t seen = 0;
  while (true) {
    WaitForJob(seen);
    seen = num_jobs_.load();
    if (stopping_.load()) return;
    RunChunks(thread);
  }
}

void ThreadPool::WaitForJob(uint64_t seen) {
  for (int32_t i = 0; i < kSpinsBeforeSleep; ++i) {
    if (num_jobs_.load(std::memory_order_acquire) != seen) return;
    Pause();
  }
  // Either the caller sees the sleeper counted and takes the mutex to wake it, or the sleeper sees the new
  // job: both counters are sequentially consistent.
  std::unique_lock<std::mutex> lock(mutex_);
  num_sleeping_.fetch_add(1);
  while (num_jobs_.load() == seen) wake_.wait(lock);
  num_sleeping_.fetch_sub(1);
}

void ThreadPool::WakeSleepers() {
  { const std::lock_guard<std::mutex> lock(mutex_); }
  wake_.notify_all();
}

}  // namespace mirrorsd::engine
