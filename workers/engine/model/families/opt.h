#pragma once
// OPT: LayerNorm before each half of a block, learned positions, a ReLU MLP, biases everywhere.

#include "workers/engine/model/families/family.h"

namespace mirrorsd::engine {

void ReadOptConfig(ConfigFields* fields, ModelConfig* config);
std::vector<TensorSpec> ListOptTensors(const ModelConfig& config);

}  // namespace mirrorsd::engine
