#pragma once
// Exact-match coupled sampling: the target's token is argmax(processed logits + G), at temperature 0
// argmax(processed logits), ties to the lowest id, G being the counter noise of (seed, sample_index,
// output position, token). The draft does the same with noise on its largest logits only. No probability
// of the draft is ever used, and nothing here depends on the batch or the window.
// Not thread-safe: a sampler has scratch memory of its own.

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/worker_messages.h"
#include "workers/engine/sampling/logits_processor.h"
#include "workers/engine/sampling/noise_cache.h"
#include "workers/engine/sampling/sampling_state.h"

namespace mirrorsd::engine {

class Sampler {
 public:
  explicit Sampler(int32_t vocabulary_size, int32_t max_noise_rows = 4);

  // The target's own token after state.tokens(). Uses up `row`: it is processed in place.
  // Shapes: row[V]
  // Errors: INTERNAL with reason NAN_LOGITS where the logits hold NaN or +infinity, or where nothing is
  //         left to choose (all -infinity, as with every token masked)
  absl::StatusOr<TokenId> Sample(const SamplingState& state, absl::Span<float> row);

  // The draft's guesses at the token after state.tokens(), best first: of the filtered tokens the
  // `noise_top` largest, ordered by logit plus noise (at temperature 0 by logit). The first is its
  // proposal, the r-th its r-th best. Uses up `row`; good until the next call; never empty.
  // Shapes: row[<= V]: ids at or beyond its end are not proposed
  // Errors: as Sample
  absl::StatusOr<absl::Span<const Candidate>> Rank(const SamplingState& state,
                                                   absl::Span<float> row, int32_t noise_top);

  // What an early exit's row says of the token after state.tokens(): the score of `drafted`, where one is
  // given, and the `top_k` best of the others, best first. A score is processed logit plus the noise that
  // Sample would add, at temperature 0 the processed logit. Noise is drawn for `drafted` and for the
  // `noise_top` largest processed logits only: a token beyond these is no candidate, whatever its noise. Masked
  // tokens are no candidates; a masked `drafted` scores the lowest finite float. Uses up `row`.
  // Shapes: row[V]; drafted in [0, V)
  // Errors: as Sample
  absl::StatusOr<EarlyExitRow> Foresee(const SamplingState& state, absl::Span<float> row,
                                       std::optional<TokenId> drafted, int32_t top_k,
                                       int32_t noise_top);

 private:
  absl::StatusOr<TokenId> SampleFiltered(const SamplingState& state, absl::Span<float> row,
                                         float peak);

  int32_t vocabulary_size_;
  NoiseCache noise_;
  RowFilter filter_;
  std::vector<Candidate> candidates_;
};

}  // namespace mirrorsd::engine
