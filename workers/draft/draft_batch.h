#pragma once
// Which rows the draft computes next: a depth of the rollouts, else a chunk of catching up. Chooses, gives
// places, makes room in the pool by evicting, and computes nothing. Not thread-safe.

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "common/worker_messages.h"
#include "workers/draft/draft_sequence.h"

namespace mirrorsd::workers {

using DraftSequences = std::map<SequenceId, DraftSequence>;

// A node of a sequence's tree whose KV is written, and whose logits may be wanted.
struct NodeRow {
  NodeId node = kNoNode;
  bool wants_logits = false;
};

// Rows of one sequence in a pass: its next pending tokens, then nodes, parents before children.
struct BatchPart {
  DraftSequence* sequence = nullptr;
  int32_t num_path_rows = 0;
  bool path_wants_logits = false;  // those of the last committed token, which is among them
  std::vector<NodeRow> nodes;
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

  // One depth of every branch that goes on, with what it needs below it: of the sequences that asked first
  // first, the first branch of each, then the second of each, as far as rows go. Where there is no memory for a
  // branch, those of its sequence that come after it give way, the last first, or else it ends itself; for the
  // first of a sequence, idle sequences are evicted then, used longest ago first, and at last its own.
  std::vector<BatchPart> NextRollouts(int64_t now_ns);

  // One chunk of sequences that are behind, those with the least to do first. Evicts only what was not
  // used for a while (`idle_before_ns`) nor after the sequence itself, and only where that makes enough room: so
  // catching up cannot drive out what is in use, and no two drive out each other.
  std::vector<BatchPart> NextCatchUp(int64_t idle_before_ns);

  // Whether NextCatchUp would find something, without doing it.
  bool CanCatchUp(int64_t idle_before_ns) const;

  bool IsBehind(const DraftSequence& sequence) const;

 private:
  // A sequence on its way into a rollout pass.
  struct Joining;

  // Its pending tokens; false where no branch of it can join this pass.
  bool AddPath(Joining* joining);
  // What the branch waits for, and what is missing below that.
  void AddBranch(Joining* joining, Branch* branch);
  bool AddNode(Joining* joining, Branch* branch, NodeId id);
  bool GivePlace(Joining* joining, const Branch& branch, NodeId id);
  void MarkWanted(Joining* joining, NodeId id);
  // Blocks for places below `length`. With `evicts`, idle sequences make room.
  bool Reserve(DraftSequence* sequence, int32_t length, bool evicts);
  DraftSequence* OldestIdle(const DraftSequence* asking) const;
  // What may be evicted for a sequence to catch up.
  bool IsVictim(const DraftSequence& sequence, const DraftSequence& asking, int64_t idle_before_ns) const;
  int32_t MissingBlocks(const DraftSequence& sequence) const;
  bool HasRoomFor(const DraftSequence& sequence) const;
  bool CanMakeRoomFor(const DraftSequence& sequence, int64_t idle_before_ns) const;
  int32_t BlocksFor(int32_t num_tokens) const;

  DraftSequences* sequences_;
  engine::BlockPool* pool_;
  BatchLimits limits_;
  Evict evict_;
  int32_t rows_left_ = 0;    // of the pass that is being put together
  int32_t logits_left_ = 0;
  int64_t now_ns_ = 0;
};

}  // namespace mirrorsd::workers
