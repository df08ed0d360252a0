#pragma once
// What a request asks to be done to a row of logits before the noise. The order and the definitions are
// vLLM's:
//
//   min_tokens           end tokens become -infinity before that output position
//   logit bias           added
//   penalties            repetition over prompt and output: l > 0 ? l / r : l * r; then over the output
//                        l - count * frequency, l - presence
//   temperature          l / t
//   min-p                keeps l >= max + ln(min_p): probability at least min_p times the largest
//   top-k                keeps l >= the k-th largest: values equal to the k-th are all kept
//   top-p                of what is left, from the largest down (equal ones by id), keeps a token while
//                        the probability before it is below top_p; so at least one, and the one that
//                        crosses it
//
// All steps act in place, or (the filters) yield a short list. What is not kept can never be chosen. Not
// thread-safe: a RowFilter has scratch memory of its own.

#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/sampling_parameters.h"
#include "workers/engine/sampling/sampling_state.h"

namespace mirrorsd::engine {

// min_tokens, logit bias and penalties, for the token that follows state.tokens(). Ids beyond the row
// are skipped: a draft may know fewer tokens than the request names.
void ApplyBiasAndPenalties(const SamplingState& state, absl::Span<float> row);

struct RankedToken {
  TokenId token = 0;
  float logit = 0.0f;
};

class RowFilter {
 public:
  static bool IsActive(const SamplingParameters& parameters) {
    return parameters.min_p > 0.0f || parameters.top_k > 0 || parameters.top_p < 1.0f;
  }

  // The tokens of a row, already divided by the temperature, that survive the filters; by falling logit,
  // equal ones by id. `peak` is the row's largest value, finite. At most `limit` are returned (the first
  // ones; 0: all), which spares work where only a few are wanted.
  // The result is good until the next call. Never empty.
  absl::Span<const RankedToken> Keep(const SamplingParameters& parameters,
                                     absl::Span<const float> row, float peak, int32_t limit = 0);

  // The `count` largest of a row (of those at or above `floor` and above -infinity), in the same order.
  absl::Span<const RankedToken> Largest(absl::Span<const float> row, int32_t count, float floor);

 private:
  // Keeps in kept_ the leading tokens that top-p keeps, `total` being the weight of all.
  // Returns whether the nucleus ended within kept_.
  bool CutNucleus(float top_p, float peak, double total);
  void KeepTopK(int32_t top_k, absl::Span<const float> row, float floor);

  std::vector<RankedToken> kept_;
};

}  // namespace mirrorsd::engine
