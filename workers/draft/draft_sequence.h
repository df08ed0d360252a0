#pragma once
// One sequence of the draft: the tokens it believes in, how many of them the target has committed, and
// for how many its KV is in place. Computes nothing. Not thread-safe.
//
//   tokens   0 ...... committed_length ...... length()
//            told by the scheduler  | window, root and own guesses: may be cut off again
//   KV       0 ............ kv_length ....... length(): to be forwarded (the pending tokens)

#include <cstdint>
#include <optional>
#include <vector>

#include "common/worker_messages.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/engine/sampling/sampling_state.h"
#include "workers/scripts/draft_script.h"

namespace mirrorsd::workers {

// The rollout that a sequence is at work on.
struct ActiveRollout {
  RoundId round_id = 0;
  int32_t num_accepted = 0;
  TokenId root_token = 0;
  int32_t depth = 0;      // tokens wanted
  int32_t num_done = 0;   // tokens sent
  int64_t received_ns = 0;
  int64_t started_ns = 0;  // 0: not yet
};

class DraftSequence {
 public:
  // `pool` outlives it.
  DraftSequence(const StartSequence& command, engine::BlockPool* pool);

  SequenceId id() const { return id_; }
  const engine::SamplingState& sampling() const { return sampling_; }
  int32_t length() const { return sampling_.length(); }
  int32_t committed_length() const { return committed_length_; }
  int32_t kv_length() const { return kv_length_; }
  // What the scheduler may count on: KV of committed tokens.
  int32_t acknowledged_length() const {
    return kv_length_ < committed_length_ ? kv_length_ : committed_length_;
  }
  int32_t num_pending() const { return length() - kv_length_; }
  // All tokens that the start promised are there.
  bool is_complete() const { return committed_length_ >= total_length_; }
  int32_t num_blocks() const { return static_cast<int32_t>(cache_.block_table().size()); }

  // Prompt tokens. False (and nothing done) for a gap or for more than was promised; what lies before the
  // end was heard already and is true. The last of them looks into the prefix cache.
  bool Append(const AppendTokens& command);

  // Makes the tokens the path to `root` (whose token is set): keeps the longest match with what is there,
  // cuts the rest off, and leaves at least the root pending. False (and nothing done) where the path
  // starts beyond the known committed tokens, shrinks them, or the root does not fit the window.
  bool Reconcile(const StartRollout& command, const RolloutRoot& root);

  // Blocks for the KV of the next `num_tokens` pending tokens; false where the pool has too few.
  bool Reserve(int32_t num_tokens) { return cache_.Reserve(kv_length_ + num_tokens); }
  absl::Span<const BlockId> block_table() const { return cache_.block_table(); }
  // The next `num_tokens` pending tokens as the model is fed: ids that it does not know as id 0.
  std::vector<TokenId> PendingRows(int32_t num_tokens, int32_t vocabulary_size) const;
  // Their KV is written now; what is committed of it may be shared from here on.
  void AdvanceKv(int32_t num_tokens);
  // The draft's own next token.
  void AppendGuess(TokenId token) { sampling_.Append(token); }

  // Lets all blocks go; the committed tokens stay known.
  void DropKv();
  // Takes what the prefix cache still has of the committed tokens. For a sequence without KV.
  void AdoptCachedPrefix();

  DraftSequenceState state = DraftSequenceState::kCatchingUp;
  std::optional<ActiveRollout> rollout;
  RoundId last_round_id = 0;
  int64_t last_used_ns = 0;
  int32_t reported_length = 0;  // acknowledged_length() as last told
  // The recorded stream of its request, null where there is none; empty: not looked up yet.
  std::optional<const scripts::DraftScript::Stream*> script_stream;

 private:
  void Cut(int32_t length);

  SequenceId id_;
  engine::SamplingState sampling_;  // its tokens are the path and the guesses
  engine::SequenceCache cache_;     // commits only what is final
  int32_t total_length_ = 0;
  int32_t committed_length_ = 0;
  int32_t kv_length_ = 0;
};

}  // namespace mirrorsd::workers
