#include "workers/engine/kv_cache/sequence_cache.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace mirrorsd::engine {

SequenceCache::SequenceCache(BlockPool* pool) : pool_(pool) {}

SequenceCache::~SequenceCache() { Clear(); }

SequenceCache::SequenceCache(SequenceCache&& other) noexcept
    : pool_(other.pool_),
      blocks_(std::exchange(other.blocks_, {})),
      committed_length_(std::exchange(other.committed_length_, 0)),
      tail_(std::exchange(other.tail_, {})) {}

SequenceCache& SequenceCache::operator=(SequenceCache&& other) noexcept {
  if (this == &other) return *this;
  Clear();
  pool_ = other.pool_;
  blocks_ = std::exchange(other.blocks_, {});
  committed_length_ = std::exchange(other.committed_length_, 0);
  tail_ = std::exchange(other.tail_, {});
  return *this;
}

int32_t SequenceCache::Start(absl::Span<const TokenId> token_ids) {
  CHECK(blocks_.empty());
  if (token_ids.empty()) return 0;
  const int32_t max_blocks = static_cast<int32_t>(token_ids.size() - 1) / pool_->block_tokens();
  blocks_ = pool_->AcquirePrefix(token_ids, max_blocks);
  committed_length_ = capacity();
  return committed_length_;
}

bool SequenceCache::Reserve(int32_t length) {
  const int32_t block_tokens = pool_->block_tokens();
  const int32_t needed = (length + block_tokens - 1) / block_tokens;
  const int32_t missing = needed - static_cast<int32_t>(blocks_.size());
  if (missing > pool_->num_available()) return false;
  for (int32_t i = 0; i < missing; ++i) {
    const std::optional<BlockId> block = pool_->Allocate();
    CHECK(block.has_value());
    blocks_.push_back(*block);
  }
  return true;
}

void SequenceCache::Commit(absl::Span<const TokenId> token_ids) {
  CHECK_LE(committed_length_ + static_cast<int64_t>(token_ids.size()), capacity());
  for (TokenId token : token_ids) {
    tail_.push_back(token);
    ++committed_length_;
    if (static_cast<int32_t>(tail_.size()) < pool_->block_tokens()) continue;
    const int32_t index = committed_length_ / pool_->block_tokens() - 1;
    std::optional<BlockId> parent;
    if (index > 0) parent = blocks_[index - 1];
    blocks_[index] = pool_->Publish(blocks_[index], parent, tail_);
    tail_.clear();
  }
}

int32_t SequenceCache::Rollback(int32_t length) {
  CHECK(length >= 0 && length <= committed_length_) << length << " of " << committed_length_;
  const int32_t full_length = committed_length_ - static_cast<int32_t>(tail_.size());
  if (length >= full_length) {
    tail_.resize(length - full_length);
    committed_length_ = length;
    return length;
  }
  const int32_t kept_blocks = length / pool_->block_tokens();
  tail_.clear();
  committed_length_ = kept_blocks * pool_->block_tokens();
  ReleaseAbove(committed_length_);
  return committed_length_;
}

void SequenceCache::ReleaseAbove(int32_t length) {
  CHECK_GE(length, committed_length_);
  const size_t kept = (length + pool_->block_tokens() - 1) / pool_->block_tokens();
  while (blocks_.size() > kept) {
    pool_->Release(blocks_.back());
    blocks_.pop_back();
  }
}

SequenceCache SequenceCache::Fork() const {
  SequenceCache fork(pool_);
  const int32_t full_blocks = committed_length_ / pool_->block_tokens();
  for (int32_t i = 0; i < full_blocks; ++i) {
    pool_->AddReference(blocks_[i]);
    fork.blocks_.push_back(blocks_[i]);
  }
  fork.committed_length_ = fork.capacity();
  return fork;
}

void SequenceCache::Clear() {
  committed_length_ = 0;
  tail_.clear();
  ReleaseAbove(0);
}

}  // namespace mirrorsd::engine
