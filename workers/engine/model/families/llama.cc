#include "workers/engine/model/families/llama.h"

#include "absl/strings/str_cat.h"
#include "workers/engine/model/loader/rope_fields.h"
#include "workers/engine/model/loader/shape_fields.h"

namespace mirrorsd::engine {

void ReadLlamaConfig(ConfigFields* fields, ModelConfig* config) {
  ReadShape(fields, config);
  config->norm_eps = static_cast<float>(fields->NumberOr("rms_norm_eps", 1e-6, 1e-12, 1.0));
  config->tied_head = fields->BoolOr("tie_word_embeddings", false);
  config->rope = ReadRope(fields, config->max_positions);
  const std::string activation = fields->StringOr("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    fields->Fail("hidden_act", absl::StrCat("is \"", activation.substr(0, 60), "\""),
                 "supported: silu");
  }
  BlockConfig& block = config->block;
  block.norm = NormKind::kRmsNorm;
  block.activation = Activation::kSilu;
  block.positions = PositionKind::kRope;
  block.gated_mlp = true;
  block.qkv_bias = block.output_bias = fields->BoolOr("attention_bias", false);
  block.mlp_bias = fields->BoolOr("mlp_bias", false);
}

std::vector<TensorSpec> ListLlamaTensors(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t query = int64_t{config.num_heads} * config.head_dim;
  const int64_t key = int64_t{config.num_kv_heads} * config.head_dim;
  const int64_t vocabulary = config.vocabulary_size;
  using Role = TensorRole;

  std::vector<TensorSpec> specs;
  specs.push_back({Role::kTokenEmbedding, kNoLayer, "model.embed_tokens.weight", {vocabulary, hidden}});
  specs.push_back({Role::kFinalNorm, kNoLayer, "model.norm.weight", {hidden}});
  if (!config.tied_head) {
    specs.push_back({Role::kHead, kNoLayer, "lm_head.weight", {vocabulary, hidden}});
  }
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    const auto norm = [&](Role role, absl::string_view name) {
      specs.push_back({role, layer, absl::StrCat(prefix, name, ".weight"), {hidden}});
    };
    const auto linear = [&](Role weight, Role bias, bool has_bias, absl::string_view name,
                            int64_t outputs, int64_t inputs) {
      specs.push_back({weight, layer, absl::StrCat(prefix, name, ".weight"), {outputs, inputs}});
      if (has_bias) specs.push_back({bias, layer, absl::StrCat(prefix, name, ".bias"), {outputs}});
    };
    const BlockConfig& block = config.block;
    norm(Role::kAttentionNorm, "input_layernorm");
    linear(Role::kQuery, Role::kQueryBias, block.qkv_bias, "self_attn.q_proj", query, hidden);
    linear(Role::kKey, Role::kKeyBias, block.qkv_bias, "self_attn.k_proj", key, hidden);
    linear(Role::kValue, Role::kValueBias, block.qkv_bias, "self_attn.v_proj", key, hidden);
    if (block.qk_norm) {
      specs.push_back({Role::kQueryNorm, layer, absl::StrCat(prefix, "self_attn.q_norm.weight"),
                       {config.head_dim}});
      specs.push_back({Role::kKeyNorm, layer, absl::StrCat(prefix, "self_attn.k_norm.weight"),
                       {config.head_dim}});
    }
    linear(Role::kOutput, Role::kOutputBias, block.output_bias, "self_attn.o_proj", hidden, query);
    norm(Role::kMlpNorm, "post_attention_layernorm");
    linear(Role::kGate, Role::kGateBias, block.mlp_bias, "mlp.gate_proj", inner, hidden);
    linear(Role::kUp, Role::kUpBias, block.mlp_bias, "mlp.up_proj", inner, hidden);
    linear(Role::kDown, Role::kDownBias, block.mlp_bias, "mlp.down_proj", hidden, inner);
  }
  return specs;
}

}  // namespace mirrorsd::engine
