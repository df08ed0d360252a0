#pragma once
// The sizes that most families name alike: hidden size, layers, heads, head size, inner size, vocabulary,
// positions. Every limit stands here, before anything is allocated. Pure function.

#include "workers/engine/model/loader/config_fields.h"
#include "workers/engine/model/model_config.h"

namespace mirrorsd::engine {

// head_dim is its own field or hidden_size / num_attention_heads; num_key_value_heads is its own or
// num_attention_heads. What is wrong is recorded in `fields`.
void ReadShape(ConfigFields* fields, ModelConfig* config,
               const char* intermediate_size = "intermediate_size");

}  // namespace mirrorsd::engine
