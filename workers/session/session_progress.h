#pragma once
// What a worker process tells in its heartbeats, kept by the session as it works: how far it has come and
// how full its block pool is. Written by the session's thread, read from any thread.

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "common/worker_messages.h"

namespace mirrorsd::workers {

class SessionProgress {
 public:
  // Writer: the session's thread only.
  void CountRound() { num_rounds_done_.fetch_add(1, std::memory_order_relaxed); }
  void SetBlocks(const KvBlocks& blocks) {
    total_.store(blocks.total, std::memory_order_relaxed);
    free_.store(blocks.free, std::memory_order_relaxed);
    evictable_.store(blocks.evictable, std::memory_order_relaxed);
  }
  void SetNumSequences(int64_t num_sequences) {
    num_sequences_.store(num_sequences, std::memory_order_relaxed);
  }

  // Rounds (verifier) or depths and chunks (draft) since the process started; a Reset does not clear it.
  int64_t num_rounds_done() const { return num_rounds_done_.load(std::memory_order_relaxed); }
  int64_t num_sequences() const { return num_sequences_.load(std::memory_order_relaxed); }
  // The three counts are read one by one and may be of neighbouring moments; cut so that they add up.
  KvBlocks blocks() const {
    const int64_t total = total_.load(std::memory_order_relaxed);
    const int64_t free = std::min(free_.load(std::memory_order_relaxed), total);
    const int64_t evictable = std::min(evictable_.load(std::memory_order_relaxed), total - free);
    return KvBlocks{.total = total, .free = free, .evictable = evictable};
  }
  Heartbeat MakeHeartbeat(int64_t now_ns) const {
    return Heartbeat{
        .sent_at_ns = now_ns, .num_rounds_done = num_rounds_done(), .blocks = blocks()};
  }

 private:
  std::atomic<int64_t> num_rounds_done_{0};
  std::atomic<int64_t> num_sequences_{0};
  std::atomic<int64_t> total_{0};
  std::atomic<int64_t> free_{0};
  std::atomic<int64_t> evictable_{0};
};

}  // namespace mirrorsd::workers
