#pragma once
// The inverse frequencies that RoPE rotates by, with the scaling of long-context models applied. Pure
// function of IEEE operations: the same bits everywhere.

#include <vector>

#include "workers/engine/model/model_config.h"

namespace mirrorsd::engine {

// theta^(-2i / D), scaled as rope.kind asks.
// Shapes: [head_dim / 2]
// Units: radians per position
// Source: Su et al., arXiv 2104.09864; llama3: "The Llama 3 Herd of Models", as Hugging Face computes it
std::vector<float> RopeInverseFrequencies(const RopeConfig& rope, int32_t head_dim);

}  // namespace mirrorsd::engine
