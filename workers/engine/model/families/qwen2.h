#pragma once
// Qwen 2 and 2.5: as Llama, with biases of q, k and v.

#include "workers/engine/model/families/family.h"

namespace mirrorsd::engine {

void ReadQwen2Config(ConfigFields* fields, ModelConfig* config);

}  // namespace mirrorsd::engine
