#pragma once
// The draft's best next tokens after a row, from its logits: under the request's own processing and noise,
// and where a script is followed, what that says in the first place. Computes on the host. Not thread-safe.

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/worker_messages.h"
#include "workers/draft/draft_sequence.h"
#include "workers/engine/sampling/sampler.h"
#include "workers/scripts/scripted_draft.h"

namespace mirrorsd::workers {

struct ProposerOptions {
  int32_t vocabulary_size = 0;      // of the model
  int32_t max_proposed_tokens = 0;  // ids at or beyond it are never proposed; 0: all may be
  int32_t noise_top = 64;           // best processed logits that get noise
};

class Proposer {
 public:
  // `script` may be null; else it outlives this.
  Proposer(const ProposerOptions& options, scripts::ScriptedDraft* script)
      : options_(options), sampler_(options.vocabulary_size, 1), script_(script) {}

  // The kKeptRanks best (or as many as there are) after the node, best first. Uses up `row`; good until the next
  // call.
  // Shapes: row[V]
  // Errors: as Sampler::Rank
  absl::StatusOr<absl::Span<const Candidate>> Rank(DraftSequence* sequence, NodeId node,
                                                   absl::Span<float> row);

 private:
  std::optional<TokenId> Scripted(DraftSequence* sequence, const engine::SamplingState& sampling,
                                  int32_t num_ids);

  ProposerOptions options_;
  engine::Sampler sampler_;
  scripts::ScriptedDraft* script_;
  std::vector<Candidate> ranks_;
};

}  // namespace mirrorsd::workers
