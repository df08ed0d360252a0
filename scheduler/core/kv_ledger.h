#pragma once
// What the live sequences of one verifier may come to hold in its KV pool. A sequence is let in only when
// its whole length fits, so no round ever runs short. This is the only place that knows: preemption by
// recomputation replaces the up-front reservation here. Counts only; the blocks are the worker's.

#include <cstdint>

#include "common/check.h"
#include "common/worker_messages.h"

namespace mirrorsd::scheduler {

class KvLedger {
 public:
  KvLedger() = default;
  KvLedger(int32_t block_tokens, int64_t num_blocks)
      : block_tokens_(block_tokens), num_blocks_(num_blocks) {}

  // Blocks of a sequence that may grow to `max_length` tokens. Windows are capped at what the request may
  // still yield, so they never reach beyond it.
  int64_t BlocksFor(int32_t max_length) const {
    return (int64_t{max_length} + block_tokens_ - 1) / block_tokens_;
  }
  bool CanEverHold(int32_t max_length) const { return BlocksFor(max_length) <= num_blocks_; }
  bool Fits(int32_t max_length) const {
    return reserved_blocks_ + BlocksFor(max_length) <= num_blocks_;
  }

  // Returns what Release takes back.
  int64_t Reserve(int32_t max_length) {
    CHECK(Fits(max_length));
    const int64_t blocks = BlocksFor(max_length);
    reserved_blocks_ += blocks;
    return blocks;
  }
  void Release(int64_t blocks) {
    CHECK_LE(blocks, reserved_blocks_);
    reserved_blocks_ -= blocks;
  }

  int64_t num_blocks() const { return num_blocks_; }
  int64_t reserved_blocks() const { return reserved_blocks_; }

 private:
  int32_t block_tokens_ = 1;
  int64_t num_blocks_ = 0;
  int64_t reserved_blocks_ = 0;
};

}  // namespace mirrorsd::scheduler
