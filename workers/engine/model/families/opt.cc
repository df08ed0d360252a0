#include "workers/engine/model/families/opt.h"

#include "absl/strings/str_cat.h"
#include "workers/engine/model/loader/shape_fields.h"

namespace mirrorsd::engine {
namespace {

// The first rows of the table of positions belong to nobody: padding once was counted too.
constexpr int32_t kPositionOffset = 2;

}  // namespace

void ReadOptConfig(ConfigFields* fields, ModelConfig* config) {
  ReadShape(fields, config, "ffn_dim");
  config->norm_eps = 1e-5f;
  config->tied_head = fields->BoolOr("tie_word_embeddings", true);
  config->position_offset = kPositionOffset;
  if (!fields->BoolOr("do_layer_norm_before", true)) {
    fields->Fail("do_layer_norm_before", "puts the norms behind each half", "true");
  }
  const int32_t embedding = fields->IntOr("word_embed_proj_dim", config->hidden_size, 1, 1 << 17);
  if (embedding != config->hidden_size) {
    fields->Fail("word_embed_proj_dim", absl::StrCat("is ", embedding),
                 absl::StrCat("hidden_size, ", config->hidden_size));
  }
  for (const char* name : {"enable_bias", "layer_norm_elementwise_affine"}) {
    if (!fields->BoolOr(name, true)) fields->Fail(name, "is false", "true");
  }
  if (fields->BoolOr("_remove_final_layer_norm", false)) {
    fields->Fail("_remove_final_layer_norm", "is true", "false");
  }
  const std::string activation = fields->StringOr("activation_function", "relu");
  if (activation != "relu") {
    fields->Fail("activation_function", absl::StrCat("is \"", activation.substr(0, 60), "\""),
                 "supported: relu");
  }
  BlockConfig& block = config->block;
  block.norm = NormKind::kLayerNorm;
  block.activation = Activation::kRelu;
  block.positions = PositionKind::kLearned;
  block.gated_mlp = false;
  block.qkv_bias = block.output_bias = block.mlp_bias = true;
}

std::vector<TensorSpec> ListOptTensors(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t heads = int64_t{config.num_heads} * config.head_dim;
  const int64_t vocabulary = config.vocabulary_size;
  using Role = TensorRole;

  std::vector<TensorSpec> specs;
  const auto pair = [&](Role weight, Role bias, int32_t layer, const std::string& name,
                        std::vector<int64_t> shape) {
    specs.push_back({bias, layer, name + ".bias", {shape[0]}});
    specs.push_back({weight, layer, name + ".weight", std::move(shape)});
  };
  specs.push_back({Role::kTokenEmbedding, kNoLayer, "model.decoder.embed_tokens.weight",
                   {vocabulary, hidden}});
  specs.push_back({Role::kPositionEmbedding, kNoLayer, "model.decoder.embed_positions.weight",
                   {int64_t{config.max_positions} + config.position_offset, hidden}});
  pair(Role::kFinalNorm, Role::kFinalNormBias, kNoLayer, "model.decoder.final_layer_norm", {hidden});
  if (!config.tied_head) {
    specs.push_back({Role::kHead, kNoLayer, "lm_head.weight", {vocabulary, hidden}});
  }
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = absl::StrCat("model.decoder.layers.", layer, ".");
    pair(Role::kAttentionNorm, Role::kAttentionNormBias, layer, prefix + "self_attn_layer_norm",
         {hidden});
    pair(Role::kQuery, Role::kQueryBias, layer, prefix + "self_attn.q_proj", {heads, hidden});
    pair(Role::kKey, Role::kKeyBias, layer, prefix + "self_attn.k_proj", {heads, hidden});
    pair(Role::kValue, Role::kValueBias, layer, prefix + "self_attn.v_proj", {heads, hidden});
    pair(Role::kOutput, Role::kOutputBias, layer, prefix + "self_attn.out_proj", {hidden, heads});
    pair(Role::kMlpNorm, Role::kMlpNormBias, layer, prefix + "final_layer_norm", {hidden});
    pair(Role::kUp, Role::kUpBias, layer, prefix + "fc1", {inner, hidden});
    pair(Role::kDown, Role::kDownBias, layer, prefix + "fc2", {hidden, inner});
  }
  return specs;
}

}  // namespace mirrorsd::engine
