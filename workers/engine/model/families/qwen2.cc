#include "workers/engine/model/families/qwen2.h"

#include "workers/engine/model/families/llama.h"

namespace mirrorsd::engine {

void ReadQwen2Config(ConfigFields* fields, ModelConfig* config) {
  ReadLlamaConfig(fields, config);
  if (fields->BoolOr("use_sliding_window", false)) {
    fields->Fail("use_sliding_window", "gives some layers a window of their own", "false");
  }
  config->block.qkv_bias = true;
  config->block.output_bias = false;
  config->block.mlp_bias = false;
}

}  // namespace mirrorsd::engine
