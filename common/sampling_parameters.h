#pragma once
// What a request asks of the sampler, with every value effective: defaults are already filled in by the
// gateway. Plain data; services/wire validates what comes from outside.

#include <cstdint>
#include <utility>
#include <vector>

#include "common/ids.h"

namespace mirrorsd {

struct SamplingParameters {
  float temperature = 1.0f;         // 0: greedy; [0, 100]
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]
  float repetition_penalty = 1.0f;  // (0, 100]; over prompt and output
  float presence_penalty = 0.0f;    // [-2, 2]; over output
  float frequency_penalty = 0.0f;   // [-2, 2]; over output
  int32_t min_tokens = 0;           // end tokens are masked before this output position
  std::vector<std::pair<TokenId, float>> logit_bias;  // by increasing id, at most 1,024; [-100, 100]
  uint64_t seed = 0;                // key of the counter noise
  uint32_t sample_index = 0;        // which of n samples of one request

  bool operator==(const SamplingParameters&) const = default;
};

}  // namespace mirrorsd
