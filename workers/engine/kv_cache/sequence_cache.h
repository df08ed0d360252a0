#pragma once
// The block table of one sequence and how much of its KV is final. Ids only. Not thread-safe.
//
//   tokens   0 ........ committed_length ........ capacity
//   KV       final, full    |  written in place by passes, overwritten
//            blocks cached  |  after a reject; means nothing by itself
//
// Owner of a range: below committed_length nobody writes any more; above it the running pass does.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "workers/engine/kv_cache/block_pool.h"

namespace mirrorsd::engine {

class SequenceCache {
 public:
  // `pool` must outlive it.
  explicit SequenceCache(BlockPool* pool);
  ~SequenceCache();  // Clear()
  SequenceCache(SequenceCache&& other) noexcept;
  SequenceCache& operator=(SequenceCache&& other) noexcept;

  // For an empty cache: takes what the prefix cache holds of `token_ids`, always leaving at least the last
  // token to be computed, since its logits are wanted. Returns the new committed_length.
  int32_t Start(absl::Span<const TokenId> token_ids);

  // Makes the table cover [0, length). All or nothing; false where the pool has too few blocks.
  bool Reserve(int32_t length);

  // Says that KV of the next tokens is written and final; needs capacity for them (CHECK). Full blocks
  // enter the prefix cache (a block of the table may be replaced by an equal one).
  void Commit(absl::Span<const TokenId> token_ids);

  // Takes back what was committed beyond `length`. A block that others may share is never written again,
  // so a cut within one falls back to its start, and the blocks from there on are let go; otherwise the
  // capacity stays. Returns the new committed_length, <= length.
  int32_t Rollback(int32_t length);

  // Lets blocks go that lie wholly above `length` (>= committed_length).
  void ReleaseAbove(int32_t length);

  // A second sequence with the same committed KV: shares the full blocks, and has the tokens of a partly
  // filled last block to compute again (its committed_length is rounded down to a block).
  SequenceCache Fork() const;

  // Lets all blocks go; published ones stay cached.
  void Clear();

  int32_t committed_length() const { return committed_length_; }
  int32_t capacity() const { return static_cast<int32_t>(blocks_.size()) * pool_->block_tokens(); }
  absl::Span<const BlockId> block_table() const { return blocks_; }

 private:
  BlockPool* pool_;
  std::vector<BlockId> blocks_;
  int32_t committed_length_ = 0;
  std::vector<TokenId> tail_;  // committed tokens of the block that is not full yet; what lies before is
                               // published
};

}  // namespace mirrorsd::engine
