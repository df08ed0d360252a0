#include "workers/engine/kv_cache/block_pool.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace mirrorsd::engine {

uint64_t BlockPool::DefaultHash(uint64_t parent_cache_id, absl::Span<const TokenId> tokens) {
  // FNV-1a over words, with a final mix: the bucket only, so quality is all that is asked.
  uint64_t hash = 0xcbf29ce484222325u ^ parent_cache_id;
  for (TokenId token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3u;
    hash ^= hash >> 29;
  }
  return hash;
}

BlockPool::BlockPool(int32_t num_blocks, int32_t block_tokens, HashFunction hash)
    : block_tokens_(block_tokens), hash_(hash), blocks_(num_blocks) {
  CHECK(num_blocks >= 0 && block_tokens >= 1);
  free_.reserve(num_blocks);
  for (BlockId id = num_blocks - 1; id >= 0; --id) free_.push_back(id);
}

std::optional<BlockId> BlockPool::Allocate() {
  BlockId id;
  if (!free_.empty()) {
    id = free_.back();
    free_.pop_back();
  } else if (!evictable_.empty()) {
    id = evictable_.front();
    evictable_.pop_front();
    Uncache(id);
    ++num_evictions_;
  } else {
    return std::nullopt;
  }
  blocks_[id].references = 1;
  return id;
}

void BlockPool::AddReference(BlockId id) {
  Block& block = blocks_.at(id);
  if (block.references == 0) {
    CHECK(block.cache_id != 0) << "block " << id << " is free";
    evictable_.erase(block.place);
  }
  ++block.references;
}

void BlockPool::Release(BlockId id) {
  Block& block = blocks_.at(id);
  CHECK(block.references > 0) << "block " << id << " has no reference";
  if (--block.references > 0) return;
  if (block.cache_id == 0) {
    free_.push_back(id);
  } else {
    block.place = evictable_.insert(evictable_.end(), id);
  }
}

std::vector<BlockId> BlockPool::AcquirePrefix(absl::Span<const TokenId> token_ids,
                                              int32_t max_blocks) {
  std::vector<BlockId> found;
  uint64_t parent = 0;
  const size_t limit = std::min<size_t>(std::max(max_blocks, 0), token_ids.size() / block_tokens_);
  while (found.size() < limit) {
    const auto tokens = token_ids.subspan(found.size() * block_tokens_, block_tokens_);
    const std::optional<BlockId> block = Find(hash_(parent, tokens), parent, tokens);
    if (!block) break;
    AddReference(*block);
    found.push_back(*block);
    parent = blocks_[*block].cache_id;
  }
  return found;
}

BlockId BlockPool::Publish(BlockId id, std::optional<BlockId> parent,
                           absl::Span<const TokenId> tokens) {
  Block& block = blocks_.at(id);
  CHECK(block.references > 0 && block.cache_id == 0) << "block " << id;
  CHECK_EQ(tokens.size(), static_cast<size_t>(block_tokens_));
  uint64_t parent_cache_id = 0;
  if (parent) {
    const Block& before = blocks_.at(*parent);
    CHECK(before.references > 0 && before.cache_id != 0) << "parent block " << *parent;
    parent_cache_id = before.cache_id;
  }
  const uint64_t hash = hash_(parent_cache_id, tokens);
  if (const std::optional<BlockId> equal = Find(hash, parent_cache_id, tokens)) {
    AddReference(*equal);
    Release(id);
    return *equal;
  }
  block.cache_id = next_cache_id_++;
  block.parent_cache_id = parent_cache_id;
  block.hash = hash;
  block.tokens.assign(tokens.begin(), tokens.end());
  by_hash_[hash].push_back(id);
  return id;
}

int32_t BlockPool::reference_count(BlockId id) const { return blocks_.at(id).references; }

bool BlockPool::is_cached(BlockId id) const { return blocks_.at(id).cache_id != 0; }

std::optional<BlockId> BlockPool::Find(uint64_t hash, uint64_t parent_cache_id,
                                       absl::Span<const TokenId> tokens) const {
  const auto bucket = by_hash_.find(hash);
  if (bucket == by_hash_.end()) return std::nullopt;
  for (BlockId id : bucket->second) {
    const Block& block = blocks_[id];
    if (block.parent_cache_id == parent_cache_id && absl::MakeConstSpan(block.tokens) == tokens) {
      return id;
    }
  }
  return std::nullopt;
}

void BlockPool::Uncache(BlockId id) {
  Block& block = blocks_[id];
  const auto bucket = by_hash_.find(block.hash);
  CHECK(bucket != by_hash_.end());
  std::erase(bucket->second, id);
  if (bucket->second.empty()) by_hash_.erase(bucket);
  block.cache_id = block.parent_cache_id = block.hash = 0;
  block.tokens.clear();
}

void BlockPool::DropUnreferenced() {
  for (; !evictable_.empty(); evictable_.pop_front()) {
    Uncache(evictable_.front());
    free_.push_back(evictable_.front());
  }
}

absl::Status BlockPool::CheckInvariants() const {
  const auto wrong = [](BlockId id, const char* what) {
    return absl::InternalError(absl::StrCat("block ", id, ": ", what));
  };
  std::vector<int> listed(blocks_.size(), 0);
  for (BlockId id : free_) {
    ++listed[id];
    if (blocks_[id].references != 0) return wrong(id, "free, yet referenced");
    if (blocks_[id].cache_id != 0) return wrong(id, "free, yet cached");
  }
  absl::flat_hash_map<uint64_t, BlockId> by_cache_id;
  for (BlockId id = 0; id < num_blocks(); ++id) {
    if (blocks_[id].cache_id == 0) continue;
    if (!by_cache_id.emplace(blocks_[id].cache_id, id).second) return wrong(id, "cache id twice");
  }
  // A parent outlives its children: it is used no earlier, and held while one of them is.
  absl::flat_hash_map<BlockId, int32_t> last_use;
  for (BlockId id : evictable_) {
    ++listed[id];
    if (blocks_[id].references != 0) return wrong(id, "evictable, yet referenced");
    if (blocks_[id].cache_id == 0) return wrong(id, "evictable, yet not cached");
    last_use[id] = static_cast<int32_t>(last_use.size());
  }
  for (BlockId id = 0; id < num_blocks(); ++id) {
    const Block& block = blocks_[id];
    if (listed[id] != (block.references == 0 ? 1 : 0)) return wrong(id, "in not exactly one state");
    if (block.cache_id == 0) continue;
    if (Find(block.hash, block.parent_cache_id, block.tokens) != id) return wrong(id, "not found");
    if (block.parent_cache_id == 0) continue;
    const auto parent = by_cache_id.find(block.parent_cache_id);
    if (parent == by_cache_id.end()) return wrong(id, "its parent was evicted before it");
    const bool parent_held = blocks_[parent->second].references > 0;
    if (block.references > 0 && !parent_held) return wrong(id, "held, its parent is not");
    if (block.references == 0 && !parent_held && last_use[parent->second] < last_use[id]) {
      return wrong(id, "used later than its parent");
    }
  }
  size_t in_buckets = 0;
  for (const auto& [hash, ids] : by_hash_) in_buckets += ids.size();
  if (in_buckets != by_cache_id.size()) return absl::InternalError("the cache index leaks");
  return absl::OkStatus();
}

}  // namespace mirrorsd::engine
