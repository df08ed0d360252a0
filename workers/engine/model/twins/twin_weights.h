#pragma once
// The numbers of a twin's tensors, any part of any of them at a time: the same bits from the same seed on every
// machine, compiler and number of threads. No libm. Pure functions, callable from any thread.
//
//   word:   Philox4x32-10 (common/noise.h), key = seed,
//           counter = (element / 4, low and high half of the name's FNV-1a hash, stream 1), word element % 4
//   value:  mean + spread * (sum of the word's four bytes - 510) / 147.8, rounded to the stored type: a bell of
//           standard deviation `spread`, at most 3.45 of them wide on each side

#include <cstdint>

#include "absl/types/span.h"
#include "workers/engine/model/families/family.h"
#include "workers/engine/model/model_config.h"
#include "workers/engine/model/twins/twin_spec.h"

namespace mirrorsd::engine {

struct TensorNoise {
  float mean = 0.0f;
  float spread = 0.0f;  // standard deviation
};

// How a tensor's numbers are spread. Every block writes about as much as every other into the residual stream,
// attention chooses (its scores are several units wide) and the embedding of the last token is small beside
// what the layers make of the whole context: greedy text depends on all of it.
// `config` is the target's, also for a draft.
TensorNoise NoiseOf(const TwinSpec& spec, const ModelConfig& config, const TensorSpec& tensor);

// Elements [begin, begin + size) in the spec's stored type, little endian; begin is a multiple of 4.
// Shapes: bytes[size * bytes per element]
void FillTwinTensor(const TwinSpec& spec, const ModelConfig& config, const TensorSpec& tensor,
                    int64_t begin, absl::Span<uint8_t> bytes);

}  // namespace mirrorsd::engine
