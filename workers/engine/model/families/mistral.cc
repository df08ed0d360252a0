#include "workers/engine/model/families/mistral.h"

#include "workers/engine/model/families/llama.h"

namespace mirrorsd::engine {

void ReadMistralConfig(ConfigFields* fields, ModelConfig* config) {
  ReadLlamaConfig(fields, config);
  config->block.qkv_bias = config->block.output_bias = config->block.mlp_bias = false;
  // Later ones say null: every row sees all that came before.
  config->block.sliding_window = fields->IntOr("sliding_window", 0, 1, 1 << 24);
}

}  // namespace mirrorsd::engine
