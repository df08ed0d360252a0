#include "workers/engine/model/families/qwen3.h"

#include "workers/engine/model/families/llama.h"

namespace mirrorsd::engine {
namespace {

constexpr int32_t kDefaultHeadDim = 128;  // of a config.json that names none

}  // namespace

void ReadQwen3Config(ConfigFields* fields, ModelConfig* config) {
  ReadLlamaConfig(fields, config);
  if (fields->BoolOr("use_sliding_window", false)) {
    fields->Fail("use_sliding_window", "gives some layers a window of their own", "false");
  }
  if (!fields->Has("head_dim")) config->head_dim = kDefaultHeadDim;
  config->block.mlp_bias = false;
  config->block.qk_norm = true;
}

}  // namespace mirrorsd::engine
