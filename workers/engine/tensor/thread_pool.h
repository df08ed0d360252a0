#pragma once
// A fixed number of threads for the loops inside ops. Not a task queue: one loop runs at a time, and the
// caller takes part in it. Idle threads spin for some tens of microseconds, since the next op usually
// follows at once, and then sleep.
//
// A loop is cut into chunks whose borders depend on its length and the grain only in cost, never in
// result: bodies write disjoint outputs and sum nothing across chunks. Chunks are claimed one by one, so
// a thread that the system holds back delays one chunk and not its share.
// Thread rule: one thread at a time calls ParallelFor; a body must not call it.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace mirrorsd::engine {

class ThreadPool {
 public:
  // body(begin, end, thread): the outputs [begin, end), on thread `thread` in [0, num_threads).
  using Body = absl::FunctionRef<void(int64_t begin, int64_t end, int32_t thread)>;

  // The caller included: 1 makes no thread. 0: one per processor that this process may use.
  explicit ThreadPool(int32_t num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t num_threads() const { return static_cast<int32_t>(threads_.size()) + 1; }

  // Covers [0, n) once, in chunks that are multiples of `grain` (the last one may be short); returns when
  // all are done. Up to one grain, or with one thread, it is a plain call.
  void ParallelFor(int64_t n, int64_t grain, Body body);

 private:
  struct Job {
    const Body* body = nullptr;
    int64_t n = 0;
    int64_t chunk = 0;
  };

  void WorkerMain(int32_t thread);
  // Claims and runs chunks until none is left.
  void RunChunks(int32_t thread);
  void WaitForJob(uint64_t seen);
  void WakeSleepers();

  // The job is written while no chunk can be claimed and read only after a claim.
  Job job_;
  // num_chunks in the high half, the next chunk in the low: one word, so that a late thread can never
  // claim a chunk of a loop that is over.
  alignas(64) std::atomic<uint64_t> claims_{0};
  alignas(64) std::atomic<int32_t> num_done_{0};
  alignas(64) std::atomic<uint64_t> num_jobs_{0};
  std::atomic<int32_t> num_sleeping_{0};
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;  // for the sleep alone
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
};

// Processors that this process may run on, at least 1.
int32_t NumUsableProcessors();

}  // namespace mirrorsd::engine
