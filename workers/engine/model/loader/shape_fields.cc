#include "workers/engine/model/loader/shape_fields.h"

#include "absl/strings/str_cat.h"

namespace mirrorsd::engine {
namespace {

constexpr int32_t kMaxHidden = 1 << 17;
constexpr int32_t kMaxLayers = 1024;
constexpr int32_t kMaxHeads = 1024;
constexpr int32_t kMaxHeadDim = 1024;
constexpr int32_t kMaxInner = 1 << 20;
constexpr int32_t kMaxVocabulary = 1 << 22;
constexpr int32_t kMaxPositions = 1 << 24;

}  // namespace

void ReadShape(ConfigFields* fields, ModelConfig* config, const char* intermediate_size) {
  config->hidden_size = fields->Int("hidden_size", 1, kMaxHidden);
  config->num_layers = fields->Int("num_hidden_layers", 1, kMaxLayers);
  config->early_exit_layer = fields->IntOr("early_exit_layer", 0, 0, config->num_layers);
  config->num_heads = fields->Int("num_attention_heads", 1, kMaxHeads);
  config->num_kv_heads = fields->IntOr("num_key_value_heads", config->num_heads, 1, config->num_heads);
  config->intermediate_size = fields->Int(intermediate_size, 1, kMaxInner);
  config->vocabulary_size = fields->Int("vocab_size", 1, kMaxVocabulary);
  config->max_positions = fields->IntOr("max_position_embeddings", 2048, 1, kMaxPositions);
  if (config->num_heads % config->num_kv_heads != 0) {
    fields->Fail("num_key_value_heads", absl::StrCat("is ", config->num_kv_heads),
                 absl::StrCat("a divisor of num_attention_heads, ", config->num_heads));
  }
  if (fields->Has("head_dim")) {
    config->head_dim = fields->Int("head_dim", 2, kMaxHeadDim);
  } else if (config->hidden_size % config->num_heads != 0 ||
             config->hidden_size / config->num_heads > kMaxHeadDim) {
    fields->Fail("hidden_size",
                 absl::StrCat("is ", config->hidden_size, " for ", config->num_heads, " heads"),
                 absl::StrCat("a multiple of num_attention_heads, at most ", kMaxHeadDim, " per head"));
    config->head_dim = 2;
  } else {
    config->head_dim = config->hidden_size / config->num_heads;
  }
  if (config->head_dim % 2 != 0) {
    fields->Fail("head_dim", absl::StrCat("is ", config->head_dim), "an even number");
  }
}

}  // namespace mirrorsd::engine
