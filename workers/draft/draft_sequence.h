#pragma once
// One sequence of the draft: the tokens that the target has committed, the tree of what may follow them, and
// for which of all these the KV is in place. Computes nothing. Not thread-safe.
//
//   tokens   0 ............................ committed_length | the tree: window, branches
//   KV       0 ....... kv_length | to be forwarded (pending) | where a node has a place

#include <cstdint>
#include <optional>
#include <vector>

#include "common/worker_messages.h"
#include "workers/draft/branch_tree.h"
#include "workers/draft/tree_places.h"
#include "workers/engine/backend/backend.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/engine/sampling/sampling_state.h"
#include "workers/scripts/draft_script.h"

namespace mirrorsd::workers {

class DraftSequence {
 public:
  // `pool` outlives it. No position at or beyond `context_length` is computed.
  DraftSequence(const StartSequence& command, int32_t context_length, engine::BlockPool* pool);

  SequenceId id() const { return id_; }
  int32_t committed_length() const { return committed_length_; }
  // Tokens from the first on whose KV is there: what the scheduler may count on.
  int32_t kv_length() const { return kv_length_; }
  int32_t num_pending() const { return committed_length_ - kv_length_; }
  // All tokens that the start promised are there.
  bool is_complete() const { return committed_length_ >= total_length_; }
  int32_t num_blocks() const { return static_cast<int32_t>(cache_.block_table().size()); }
  int32_t capacity() const { return cache_.capacity(); }  // tokens
  BranchTree& tree() { return tree_; }
  const BranchTree& tree() const { return tree_; }

  // Prompt tokens. False (and nothing done) for a gap or for more than was promised; what lies before the
  // end was heard already and is true. The last of them looks into the prefix cache.
  bool Append(const AppendTokens& command);

  // A later round: its path becomes the committed tokens, what the tree has of path, window and roots is
  // kept, and the rest is dropped. Returns the copies that bring the kept KV home, to be done before any
  // pass; roots that cannot be are added to `refused`. None (and nothing done) where the path starts beyond
  // the known committed tokens, shrinks them or fills the context, or the window is too long.
  std::optional<std::vector<engine::SlotCopy>> BeginRound(const StartRollout& command, int32_t depth,
                                                          int64_t now_ns,
                                                          std::vector<RolloutRoot>* refused);
  // More roots of the round that was begun last. Path and window that contradict it have all roots refused.
  void AddRoots(const StartRollout& command, int32_t depth, int64_t now_ns,
                std::vector<RolloutRoot>* refused);

  // Blocks for places below `length`; false where the pool has too few.
  bool Reserve(int32_t length) { return cache_.Reserve(length); }
  absl::Span<const BlockId> block_table() const { return cache_.block_table(); }
  // Where a place of the tree lies in the engine's memory.
  int32_t SlotOf(int32_t place) const;
  // One above the places that the round's line at home may take.
  int32_t home_end() const { return home_end_; }

  // The next `num_tokens` pending tokens.
  absl::Span<const TokenId> Pending(int32_t num_tokens) const {
    return sampling_.tokens().subspan(kv_length_, num_tokens);
  }
  // Their KV is written now; what is committed of it may be shared from here on.
  void AdvanceKv(int32_t num_tokens);
  // The last committed token is computed again, for its logits.
  void RepeatLast() { kv_length_ = std::min(kv_length_, committed_length_ - 1); }

  // The sampler's view of the sequence with the tokens up to a node of its tree. Until the next call.
  const engine::SamplingState& StandAt(NodeId id);
  // That of the committed tokens alone.
  const engine::SamplingState& StandAtPath() { return StandAt(tree_.tokens().base()); }

  // Lets all blocks go and ends the round; the committed tokens stay known.
  void DropKv();
  // Takes what the prefix cache still has of the committed tokens. For a sequence without KV.
  void AdoptCachedPrefix();

  DraftSequenceState state = DraftSequenceState::kCatchingUp;
  RoundId last_round_id = 0;
  int64_t last_used_ns = 0;
  int64_t round_received_ns = 0;
  int32_t reported_length = 0;  // kv_length() as last told
  // The recorded stream of its request, null where there is none; empty: not looked up yet.
  std::optional<const scripts::DraftScript::Stream*> script_stream;

 private:
  bool Joins(const StartRollout& command) const;
  void Cut(int32_t length);

  SequenceId id_;
  engine::SamplingState sampling_;  // its tokens are the committed ones, and of the tree what it stands at
  engine::SequenceCache cache_;     // commits only what is final
  BranchTree tree_;
  int32_t total_length_ = 0;
  int32_t committed_length_ = 0;
  int32_t kv_length_ = 0;
  int32_t home_end_ = 0;
};

}  // namespace mirrorsd::workers
