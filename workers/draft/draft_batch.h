#pragma once
// Which rows the draft computes next: a depth of the rollouts, else a chunk of catching up. Chooses,
// makes room in the pool by evicting, and computes nothing. Not thread-safe.

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "common/worker_messages.h"
#include "workers/draft/draft_sequence.h"

namespace mirrorsd::workers {

using DraftSequences = std::map<SequenceId, DraftSequence>;

// Rows of one sequence in a pass: its next `num_rows` pending tokens.
struct BatchPart {
  DraftSequence* sequence = nullptr;
  int32_t num_rows = 0;
  bool wants_token = false;  // the last pending token is among them and its rollout goes on
};

struct BatchLimits {
  int32_t max_rows = 0;
  int32_t max_logits_rows = 0;
  int32_t catch_up_chunk_tokens = 0;  // of one catch-up pass; of one sequence also in a rollout pass
  int32_t context_length = 0;
  int32_t max_depth = 0;
};

class DraftBatch {
 public:
  // `evict` lets a sequence's blocks go and says so.
  using Evict = std::function<void(DraftSequence*)>;

  DraftBatch(DraftSequences* sequences, engine::BlockPool* pool, const BatchLimits& limits,
             Evict evict);

  // One step of every active rollout, those that came first first, as far as rows and blocks go: its
  // pending tokens, a chunk at most. Where the pool is full, idle sequences are evicted, used longest ago
  // first, and at last the sequence that asks itself.
  std::vector<BatchPart> NextRollouts();

  // One chunk of sequences that are behind, those with the least to do first. Evicts only what was not
  // used for a while (`idle_before_ns`), so that catching up cannot drive out what is in use.
  std::vector<BatchPart> NextCatchUp(int64_t idle_before_ns);

  // Whether NextCatchUp would find something, without doing it.
  bool CanCatchUp(int64_t idle_before_ns) const;

  bool IsBehind(const DraftSequence& sequence) const;

 private:
  DraftSequence* OldestIdle(const DraftSequence* asking, int64_t used_before_ns) const;
  bool HasRoomFor(const DraftSequence& sequence) const;
  int32_t BlocksFor(int32_t num_tokens) const;

  DraftSequences* sequences_;
  engine::BlockPool* pool_;
  BatchLimits limits_;
  Evict evict_;
};

}  // namespace mirrorsd::workers
