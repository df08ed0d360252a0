#pragma once
// How many blocks of one verifier's KV pool its sequences may hold, at every moment: an upper bound of what
// the worker references, so that a round whose rows the ledger granted never runs short there. Counts
// only; the blocks are the worker's. What its prefix cache keeps unreferenced is evictable and counts as
// free; a block that two sequences share is counted for each. Not thread-safe.
//
//   held     at rest: blocks of the tokens with KV. In a round: with the rows of the round
//   wanted   held, and what a prompt that is being prefilled will still come to hold
//   limit    blocks of the longest that the request may become
//
// A sequence is let in when what is wanted leaves some headroom, so the pool may run short later: then the
// rounds shrink, and sequences are preempted (rounds.cc, preemption.cc). Each operation is O(1).

#include <algorithm>
#include <cstdint>

#include "common/check.h"
#include "common/worker_messages.h"

namespace mirrorsd::scheduler {

// What one sequence has there. 0 <= held <= wanted <= limit.
struct KvShare {
  int64_t held = 0;
  int64_t wanted = 0;
  int64_t limit = 0;
};

class KvLedger {
 public:
  KvLedger() = default;
  KvLedger(int32_t block_tokens, int64_t num_blocks)
      : block_tokens_(block_tokens), num_blocks_(num_blocks) {}

  int64_t BlocksFor(int32_t length) const {
    return (int64_t{length} + block_tokens_ - 1) / block_tokens_;
  }
  // A sequence that is alone always fits up to its longest.
  bool CanEverHold(int32_t max_length) const { return BlocksFor(max_length) <= num_blocks_; }

  // Whether one more sequence may start: there is room for its tokens, and beyond them either for all that
  // can ever come of all, or a headroom of one block for each sequence and a 64th of the pool. Without the
  // headroom what was preempted would come back only to be preempted again.
  bool Fits(int32_t length, int32_t max_length) const {
    if (limit_blocks_ + BlocksFor(max_length) <= num_blocks_) return true;
    const int64_t headroom = num_shares_ + 1 + num_blocks_ / 64;
    return CanEverHold(max_length) && wanted_blocks_ + BlocksFor(length) + headroom <= num_blocks_;
  }

  // A sequence of `length` tokens that the worker may start: until it says what of them the prefix cache
  // held, all of it.
  KvShare Open(int32_t length, int32_t max_length) {
    const KvShare share{BlocksFor(length), BlocksFor(length), BlocksFor(max_length)};
    CHECK_LE(share.held, free_blocks());
    Add(share, 1);
    return share;
  }

  // The prefix cache held `cached_length` tokens; the others are still wanted.
  void Start(KvShare* share, int32_t cached_length) {
    SetHeld(share, std::min(share->held, BlocksFor(cached_length)));
  }

  // What is missing for KV of `length` tokens.
  int64_t Missing(const KvShare& share, int32_t length) const {
    return std::max<int64_t>(0, BlocksFor(length) - share.held);
  }
  // Makes the share reach `length`. The missing blocks must be free.
  void Grow(KvShare* share, int32_t length) {
    const int64_t missing = Missing(*share, length);
    if (missing == 0) return;
    CHECK_LE(missing, free_blocks());
    SetHeld(share, share->held + missing);
  }
  // A round has ended with `length` committed tokens: what lies above is let go, nothing more is wanted.
  void Rest(KvShare* share, int32_t length) {
    const int64_t held = std::min(share->held, BlocksFor(length));
    used_blocks_ += held - share->held;
    wanted_blocks_ += held - share->wanted;
    share->held = share->wanted = held;
  }

  // The sequence is ending: it holds what it held until Close, and wants nothing more.
  void BeginClose(KvShare* share) {
    CHECK(share->limit > 0);
    wanted_blocks_ += share->held - share->wanted;
    limit_blocks_ += share->held - share->limit;
    share->wanted = share->limit = share->held;
    closing_blocks_ += share->held;
  }
  void Close(const KvShare& share) {
    CHECK_LE(share.held, closing_blocks_);
    closing_blocks_ -= share.held;
    Add({-share.held, -share.wanted, -share.limit}, -1);
  }

  int64_t num_blocks() const { return num_blocks_; }
  int64_t used_blocks() const { return used_blocks_; }
  int64_t wanted_blocks() const { return wanted_blocks_; }
  int64_t limit_blocks() const { return limit_blocks_; }
  int64_t closing_blocks() const { return closing_blocks_; }  // of used: come back by themselves
  int64_t num_shares() const { return num_shares_; }
  int64_t free_blocks() const { return num_blocks_ - used_blocks_; }
  // For windows: what is free and no prompt wants.
  int64_t spare_blocks() const { return std::max<int64_t>(0, num_blocks_ - wanted_blocks_); }
  // Tokens that a share could reach with `blocks` more.
  int64_t Reach(const KvShare& share, int64_t blocks) const {
    return (share.held + blocks) * block_tokens_;
  }

 private:
  void Add(const KvShare& share, int64_t num) {
    used_blocks_ += share.held;
    wanted_blocks_ += share.wanted;
    limit_blocks_ += share.limit;
    num_shares_ += num;
  }
  void SetHeld(KvShare* share, int64_t held) {
    used_blocks_ += held - share->held;
    share->held = held;
    if (held <= share->wanted) return;
    wanted_blocks_ += held - share->wanted;
    share->wanted = held;
  }

  int32_t block_tokens_ = 1;
  int64_t num_blocks_ = 0;
  int64_t used_blocks_ = 0;
  int64_t wanted_blocks_ = 0;
  int64_t limit_blocks_ = 0;
  int64_t closing_blocks_ = 0;
  int64_t num_shares_ = 0;
};

}  // namespace mirrorsd::scheduler
