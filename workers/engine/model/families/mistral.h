#pragma once
// Mistral: as Llama, with a sliding window in every layer.

#include "workers/engine/model/families/family.h"

namespace mirrorsd::engine {

void ReadMistralConfig(ConfigFields* fields, ModelConfig* config);

}  // namespace mirrorsd::engine
