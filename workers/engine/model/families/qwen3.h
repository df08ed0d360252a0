#pragma once
// Qwen 3 (dense): as Llama, with an RMS norm over each head of q and k before RoPE.

#include "workers/engine/model/families/family.h"

namespace mirrorsd::engine {

void ReadQwen3Config(ConfigFields* fields, ModelConfig* config);

}  // namespace mirrorsd::engine
