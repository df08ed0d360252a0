#pragma once
// One sequence of the verifier and all of them: what the commands make of it, without any computing.
// A sequence's tokens are, at every moment between rounds, exactly the committed ones. Not thread-safe.

#include <cstdint>
#include <map>
#include <optional>

#include "common/worker_messages.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/engine/sampling/sampling_state.h"

namespace mirrorsd::workers {

struct VerifiedSequence {
  engine::SamplingState sampling;  // its tokens are the committed ones
  engine::SequenceCache cache;     // its committed_length is the valid KV's
  int32_t total_length = 0;        // tokens that AppendTokens brings
  bool started = false;            // all of them are in
  std::optional<WorkerError> refused;  // what every round that names it is told

  int32_t committed_length() const { return sampling.length(); }
  int32_t kv_length() const { return cache.committed_length(); }
};

class VerifiedSequences {
 public:
  struct Limits {
    int32_t max_sequences = 0;
    int32_t context_length = 0;
    int32_t vocabulary_size = 0;
    bool prefix_cache = true;
  };

  // `pool` outlives it.
  VerifiedSequences(engine::BlockPool* pool, const Limits& limits);

  // A repeated id is a no-op, and so is one beyond max_sequences; lengths that cannot be are remembered
  // as the sequence's refusal.
  void Start(const StartSequence& command);

  // Tokens at the end of what is there; what lies before it was heard already. A gap or an unknown id
  // refuses the sequence. Returns SequenceStarted when the last token came.
  std::optional<SequenceStarted> Append(const AppendTokens& command);

  // Lets its blocks go; full committed ones stay in the prefix cache. False where there is none.
  bool End(SequenceId sequence_id);

  VerifiedSequence* Find(SequenceId sequence_id);
  size_t size() const { return sequences_.size(); }
  void Clear() { sequences_.clear(); }

 private:
  engine::BlockPool* pool_;
  Limits limits_;
  std::map<SequenceId, VerifiedSequence> sequences_;
};

}  // namespace mirrorsd::workers
