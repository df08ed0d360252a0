#include "workers/draft/draft_batch.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace mirrorsd::workers {

DraftBatch::DraftBatch(DraftSequences* sequences, engine::BlockPool* pool,
                       const BatchLimits& limits, Evict evict)
    : sequences_(sequences), pool_(pool), limits_(limits), evict_(std::move(evict)) {}

int32_t DraftBatch::BlocksFor(int32_t num_tokens) const {
  return (num_tokens + pool_->block_tokens() - 1) / pool_->block_tokens();
}

DraftSequence* DraftBatch::OldestIdle(const DraftSequence* asking, int64_t used_before_ns) const {
  DraftSequence* oldest = nullptr;
  for (auto& [id, sequence] : *sequences_) {
    if (&sequence == asking || sequence.rollout.has_value() || sequence.num_blocks() == 0 ||
        sequence.last_used_ns >= used_before_ns) {
      continue;
    }
    if (oldest == nullptr || sequence.last_used_ns < oldest->last_used_ns) oldest = &sequence;
  }
  return oldest;
}

std::vector<BatchPart> DraftBatch::NextRollouts() {
  std::vector<DraftSequence*> waiting;
  for (auto& [id, sequence] : *sequences_) {
    if (sequence.rollout.has_value()) waiting.push_back(&sequence);
  }
  std::stable_sort(waiting.begin(), waiting.end(), [](DraftSequence* a, DraftSequence* b) {
    return a->rollout->received_ns < b->rollout->received_ns;
  });
  std::vector<BatchPart> parts;
  int32_t rows_left = limits_.max_rows;
  int32_t logits_left = limits_.max_logits_rows;
  for (DraftSequence* sequence : waiting) {
    const int32_t num_rows =
        std::min({sequence->num_pending(), rows_left, limits_.catch_up_chunk_tokens});
    if (num_rows <= 0 || logits_left <= 0) break;
    bool has_room = sequence->Reserve(num_rows);
    while (!has_room) {
      DraftSequence* victim = OldestIdle(sequence, std::numeric_limits<int64_t>::max());
      if (victim == nullptr) break;
      evict_(victim);
      has_room = sequence->Reserve(num_rows);
    }
    if (!has_room) {
      evict_(sequence);
      continue;
    }
    const bool wants_token = num_rows == sequence->num_pending();
    parts.push_back({sequence, num_rows, wants_token});
    rows_left -= num_rows;
    logits_left -= wants_token ? 1 : 0;
  }
  return parts;
}

bool DraftBatch::IsBehind(const DraftSequence& sequence) const {
  return sequence.is_complete() && !sequence.rollout.has_value() &&
         (sequence.state == DraftSequenceState::kCatchingUp ||
          sequence.state == DraftSequenceState::kEvicted) &&
         sequence.length() <= limits_.context_length;
}

bool DraftBatch::HasRoomFor(const DraftSequence& sequence) const {
  // The whole of it and a rollout: begun and driven out again would be work for nothing.
  const int32_t missing =
      BlocksFor(sequence.length() + limits_.max_depth) - sequence.num_blocks();
  return missing <= pool_->num_available();
}

bool DraftBatch::CanCatchUp(int64_t idle_before_ns) const {
  for (const auto& [id, sequence] : *sequences_) {
    if (!IsBehind(sequence)) continue;
    if (HasRoomFor(sequence)) return true;
    // Room could be made only if the pool can hold it at all.
    if (BlocksFor(sequence.length() + limits_.max_depth) <= pool_->num_blocks() &&
        OldestIdle(&sequence, idle_before_ns) != nullptr) {
      return true;
    }
  }
  return false;
}

std::vector<BatchPart> DraftBatch::NextCatchUp(int64_t idle_before_ns) {
  std::vector<DraftSequence*> behind;
  for (auto& [id, sequence] : *sequences_) {
    if (IsBehind(sequence)) behind.push_back(&sequence);
  }
  std::stable_sort(behind.begin(), behind.end(), [](DraftSequence* a, DraftSequence* b) {
    return a->num_pending() < b->num_pending();
  });
  std::vector<BatchPart> parts;
  int32_t rows_left = std::min(limits_.max_rows, limits_.catch_up_chunk_tokens);
  for (DraftSequence* sequence : behind) {
    while (!HasRoomFor(*sequence) &&
           BlocksFor(sequence->length() + limits_.max_depth) <= pool_->num_blocks()) {
      DraftSequence* victim = OldestIdle(sequence, idle_before_ns);
      if (victim == nullptr) break;
      evict_(victim);
    }
    if (!HasRoomFor(*sequence)) continue;
    if (sequence->num_blocks() == 0) sequence->AdoptCachedPrefix();
    // The last token stays pending: it is what a rollout's first row is computed from.
    const int32_t num_rows = std::min(sequence->num_pending() - 1, rows_left);
    if (num_rows < 0 || !sequence->Reserve(num_rows)) continue;
    parts.push_back({sequence, num_rows, false});
    rows_left -= num_rows;
    if (rows_left <= 0) break;
  }
  return parts;
}

}  // namespace mirrorsd::workers
