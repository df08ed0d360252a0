#pragma once
// A model family as data: how its config.json is read and which tensors it stores. One file and one row
// in families.cc per family; the forward pass (model/forward_pass.h) is the same for all of them and
// goes by ModelConfig alone. Plain data and pure functions.

#include <cstdint>
#include <string>
#include <vector>

#include "workers/engine/model/loader/config_fields.h"
#include "workers/engine/model/model_config.h"

namespace mirrorsd::engine {

// What a tensor is for. Those of a block come once per layer; which ones exist follows from BlockConfig.
enum class TensorRole : uint8_t {
  kTokenEmbedding,
  kPositionEmbedding,
  kFinalNorm,
  kFinalNormBias,
  kHead,
  // of a layer
  kAttentionNorm,
  kAttentionNormBias,
  kQuery,
  kQueryBias,
  kKey,
  kKeyBias,
  kValue,
  kValueBias,
  kQueryNorm,
  kKeyNorm,
  kOutput,
  kOutputBias,
  kMlpNorm,
  kMlpNormBias,
  kGate,
  kGateBias,
  kUp,
  kUpBias,
  kDown,
  kDownBias,
};
inline constexpr int kNumTensorRoles = static_cast<int>(TensorRole::kDownBias) + 1;
inline constexpr int32_t kNoLayer = -1;

struct TensorSpec {
  TensorRole role;
  int32_t layer = kNoLayer;
  std::string name;            // as stored
  std::vector<int64_t> shape;  // [N, K] of a matrix: rows are outputs
};

struct Family {
  const char* architecture;  // of config.json's "architectures"
  const char* model_type;    // where "architectures" is absent
  // Fills everything but architecture, model_type, eos_token_ids and stored_dtype. What is wrong is
  // recorded in `fields`.
  void (*read_config)(ConfigFields* fields, ModelConfig* config);
  // Every tensor that the forward pass needs, with the names that this family stores them by.
  std::vector<TensorSpec> (*list_tensors)(const ModelConfig& config);
};

}  // namespace mirrorsd::engine
