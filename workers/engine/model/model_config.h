#pragma once
// What a model is, as data: read from a Hugging Face config.json, and all that the forward pass needs to
// know about a family. Plain data; config.json's many spellings end in loader/config_reader.h.

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"

namespace mirrorsd::engine {

enum class NormKind : uint8_t { kRmsNorm, kLayerNorm };
enum class Activation : uint8_t { kSilu, kRelu };
enum class PositionKind : uint8_t { kRope, kLearned };
enum class RopeKind : uint8_t { kDefault, kLinear, kLlama3 };

struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;            // linear, llama3
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  int32_t original_max_positions = 0;  // llama3

  bool operator==(const RopeConfig&) const = default;
};

// One transformer block, the same for every layer of a model.
struct BlockConfig {
  NormKind norm = NormKind::kRmsNorm;
  Activation activation = Activation::kSilu;
  PositionKind positions = PositionKind::kRope;
  bool gated_mlp = true;      // down(act(gate) * up), else down(act(up))
  bool qkv_bias = false;
  bool output_bias = false;   // of the attention's output projection
  bool mlp_bias = false;
  bool qk_norm = false;       // RMS norm over each head of q and k, before RoPE
  int32_t sliding_window = 0; // tokens that a row sees, itself included; 0: all

  bool operator==(const BlockConfig&) const = default;
};

struct ModelConfig {
  std::string architecture;   // "LlamaForCausalLM"
  std::string model_type;     // "llama"
  int32_t hidden_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate_size = 0;
  int32_t vocabulary_size = 0;       // rows of the embedding
  int32_t max_positions = 0;
  int32_t position_offset = 0;       // of learned positions: row of position 0
  float norm_eps = 1e-6f;
  bool tied_head = false;            // the head is the embedding
  BlockConfig block;
  RopeConfig rope;
  int32_t early_exit_layer = 0;      // after which an exit was trained; 0: it names none
  std::vector<TokenId> eos_token_ids;  // of config.json; generation_config.json is the gateway's
  std::string stored_dtype;          // what the config says; the tensors themselves decide

  bool operator==(const ModelConfig&) const = default;
};

}  // namespace mirrorsd::engine
