#pragma once
// Llama 2 and 3 and what shares their layout: RMS norm before each half of a block, RoPE, grouped queries,
// a gated SiLU MLP, optional biases, a tied or untied head.

#include <vector>

#include "workers/engine/model/families/family.h"

namespace mirrorsd::engine {

void ReadLlamaConfig(ConfigFields* fields, ModelConfig* config);
std::vector<TensorSpec> ListLlamaTensors(const ModelConfig& config);

}  // namespace mirrorsd::engine
