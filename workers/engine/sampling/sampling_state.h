#pragma once
// What the sampler must know of one sequence: its parameters, its tokens so far, and how often each of
// them occurred. Tokens are appended as they are chosen and cut off again where they turn out wrong, so
// that row j of a window sees exactly the tokens before it. Not thread-safe.

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/noise.h"
#include "common/sampling_parameters.h"

namespace mirrorsd::engine {

// At and below it a temperature means greedy: dividing by less would leave the range of a float.
inline constexpr float kGreedyTemperature = 1e-5f;

class SamplingState {
 public:
  struct Occurrences {
    int32_t in_prompt = 0;
    int32_t in_output = 0;
  };

  // `prompt_length` is the original prompt's, also on a resume: tokens before it are prompt, the rest
  // output, and output positions count from it.
  SamplingState(const SamplingParameters& parameters, std::vector<TokenId> end_token_ids,
                int32_t prompt_length);

  void Append(TokenId token);
  void Append(absl::Span<const TokenId> tokens);
  // Drops the tokens at and after `length`; no-op where there are none.
  void Truncate(int32_t length);

  const SamplingParameters& parameters() const { return parameters_; }
  absl::Span<const TokenId> end_token_ids() const { return end_token_ids_; }
  absl::Span<const TokenId> tokens() const { return tokens_; }
  int32_t length() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t prompt_length() const { return prompt_length_; }

  // Of the token to be chosen next; 0 while the prompt is not complete.
  int32_t output_position() const {
    return length() > prompt_length_ ? length() - prompt_length_ : 0;
  }
  NoiseKey noise_key() const {
    return {parameters_.seed, parameters_.sample_index, static_cast<uint32_t>(output_position())};
  }

  bool is_greedy() const { return parameters_.temperature <= kGreedyTemperature; }
  bool has_penalties() const { return has_penalties_; }
  // Kept only where the parameters have a penalty. For look-up of each entry alone: the order of
  // iteration differs from run to run.
  const absl::flat_hash_map<TokenId, Occurrences>& occurrences() const { return occurrences_; }

 private:
  SamplingParameters parameters_;
  std::vector<TokenId> end_token_ids_;
  int32_t prompt_length_ = 0;
  bool has_penalties_ = false;
  std::vector<TokenId> tokens_;
  absl::flat_hash_map<TokenId, Occurrences> occurrences_;
};

}  // namespace mirrorsd::engine
