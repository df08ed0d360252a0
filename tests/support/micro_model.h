#pragma once
// Tiny random Llama models, made from a seed: in memory or as a Hugging Face folder. For tests that need a
// real model of negligible cost: vocabulary 32 to 640, two to four layers. The same seed gives the same
// bits everywhere. Not trained: its text means nothing, its tokens vary.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "workers/engine/model/loader/model_source.h"

namespace mirrorsd::testing {

struct MicroModelOptions {
  int32_t vocabulary_size = 64;
  int32_t hidden_size = 32;
  int32_t num_layers = 2;
  int32_t num_heads = 4;
  int32_t num_kv_heads = 2;
  int32_t head_dim = 8;
  int32_t intermediate_size = 48;
  int32_t max_positions = 512;
  bool tied_head = false;
  bool biases = false;
  std::vector<int32_t> eos_token_ids;  // empty: null
  engine::StoredType type = engine::StoredType::kF32;  // kF32, kF16 or kBf16
  uint64_t seed = 1;

  // How far a block's halves reach into the residual stream: the larger, the more a token depends on all
  // that came before; around 1 greedy text neither loops at once nor is noise of the last token alone.
  float depth_scale = 1.5f;
  // Standard deviation of the logits, roughly: at temperature 1 small is near uniform, large near greedy.
  float logit_scale = 4.0f;

  // A draft that agrees partly: a model with the same options and seed, each of its weights moved by
  // noise of this size relative to the weight's own spread, drawn from noise_seed. 0: equal. At the defaults
  // 0.03 agrees for most tokens, 0.1 for about half of them, 0.3 for a fifth, 2 hardly ever.
  float noise = 0.0f;
  uint64_t noise_seed = 2;
};

std::string MicroModelConfig(const MicroModelOptions& options);
std::vector<engine::MemoryTensor> MicroModelTensors(const MicroModelOptions& options);

// In memory, for Engine::Create. No tokenizer.
std::unique_ptr<engine::ModelSource> MakeMicroModel(const MicroModelOptions& options);

// As a folder (made if it is not there) with config.json, generation_config.json and model.safetensors;
// with `tokenizer_from`, tokenizer.json, tokenizer_config.json and chat_template.jinja are copied from that folder
// as far as they are there, and vocabulary_size should then be that tokenizer's.
absl::Status WriteMicroModel(const MicroModelOptions& options, const std::string& folder,
                             const std::string& tokenizer_from = "");

}  // namespace mirrorsd::testing
