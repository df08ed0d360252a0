#pragma once
// Llama 2 and 3 and what shares their layout: RMS norm before each half of a block, RoPE, grouped queries,
// a gated SiLU MLP, optional biases, a tied or untied head. Other families read their config as this one does and
// change what differs.

#include <vector>

#include "workers/engine/model/families/family.h"

namespace mirrorsd::engine {

void ReadLlamaConfig(ConfigFields* fields, ModelConfig* config);
// With norms of q and k where the block has them.
std::vector<TensorSpec> ListLlamaTensors(const ModelConfig& config);

}  // namespace mirrorsd::engine
