#pragma once
// The ids of a worker's KV blocks: which are free, how many hold each, and which hold the KV of a token
// prefix that a new sequence may share (the prefix cache). Ids only: the memory is the engine's. Pure
// logic, no clock; not thread-safe (the session's thread owns it).
//
// A block is in exactly one state:
//   free       no reference, not cached; its contents mean nothing
//   held       referenced by one or more sequences; cached too, once it is full and published
//   evictable  cached, unreferenced: kept in order of last use and taken when nothing is free
//
// A cached block is found by (the cached block before it, its own tokens), compared exactly; the hash
// only finds the bucket, so a collision costs time, never a wrong prefix.

#include <cstdint>
#include <list>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/ids.h"

namespace mirrorsd::engine {

class BlockPool {
 public:
  // Hash of a block's tokens and the cache id of the block before it; replaceable for tests of collisions.
  using HashFunction = uint64_t (*)(uint64_t parent_cache_id, absl::Span<const TokenId> tokens);
  static uint64_t DefaultHash(uint64_t parent_cache_id, absl::Span<const TokenId> tokens);

  BlockPool(int32_t num_blocks, int32_t block_tokens, HashFunction hash = &DefaultHash);

  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t block_tokens() const { return block_tokens_; }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  int32_t num_evictable() const { return static_cast<int32_t>(evictable_.size()); }
  int32_t num_referenced() const { return num_blocks() - num_free() - num_evictable(); }
  // How many Allocate() calls would succeed now.
  int32_t num_available() const { return num_free() + num_evictable(); }
  int64_t num_evictions() const { return num_evictions_; }

  // A block with one reference and no contents: a free one, else the evictable one used longest ago.
  // None where every block is held.
  std::optional<BlockId> Allocate();

  void AddReference(BlockId block);
  // Lets one reference go. Sequences release their tails first, so that a prefix outlives what follows it.
  void Release(BlockId block);

  // The longest chain of cached blocks that holds a prefix of `token_ids`, at most max_blocks of them,
  // each with one more reference for the caller.
  std::vector<BlockId> AcquirePrefix(absl::Span<const TokenId> token_ids, int32_t max_blocks);

  // Enters a full, held block into the cache. `parent` is the block before it, itself published; none
  // for the first. Where an equal block is cached already, that one is returned with the caller's
  // reference moved over to it, and `block` is let go: equal tokens have equal KV bits.
  // Shapes: tokens[block_tokens]
  BlockId Publish(BlockId block, std::optional<BlockId> parent, absl::Span<const TokenId> tokens);

  // Forgets every cached prefix that no sequence holds.
  void DropUnreferenced();

  int32_t reference_count(BlockId block) const;
  bool is_cached(BlockId block) const;

  // Errors: INTERNAL with what does not fit; for tests and for the worker's own watch.
  absl::Status CheckInvariants() const;

 private:
  struct Block {
    int32_t references = 0;
    uint64_t cache_id = 0;         // 0: not cached. Never given twice.
    uint64_t parent_cache_id = 0;  // 0: the first block of a prefix
    uint64_t hash = 0;
    std::vector<TokenId> tokens;   // of a cached block
    std::list<BlockId>::iterator place;  // in evictable_, if evictable
  };

  std::optional<BlockId> Find(uint64_t hash, uint64_t parent_cache_id,
                              absl::Span<const TokenId> tokens) const;
  void Uncache(BlockId id);

  int32_t block_tokens_;
  HashFunction hash_;
  std::vector<Block> blocks_;
  std::vector<BlockId> free_;     // used from the back
  std::list<BlockId> evictable_;  // front: used longest ago
  absl::flat_hash_map<uint64_t, std::vector<BlockId>> by_hash_;
  uint64_t next_cache_id_ = 1;
  int64_t num_evictions_ = 0;
};

}  // namespace mirrorsd::engine
