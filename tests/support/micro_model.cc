#include "tests/support/micro_model.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "common/error.h"
#include "nlohmann/json.hpp"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/loader/safetensors.h"
#include "workers/engine/model/loader/safetensors_writer.h"
#include "workers/engine/tensor/dtype.h"

namespace mirrorsd::testing {
namespace {

using engine::DType;
using engine::MemoryTensor;
using engine::StoredType;
using engine::TensorRole;
using engine::TensorSpec;

// SplitMix64. Sums of uniform numbers stand for a normal distribution: no libm, the same bits everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  float Normal() {
    uint64_t sum = 0;
    for (int i = 0; i < 12; ++i) sum += Next() >> 40;
    return (static_cast<float>(sum) - 6.0f * 0x1p24f) * 0x1p-24f;
  }

 private:
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

uint64_t Mix(uint64_t seed, const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u ^ (seed * 0x9e3779b97f4a7c15u);
  for (unsigned char c : name) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

bool IsNorm(TensorRole role) {
  return role == TensorRole::kAttentionNorm || role == TensorRole::kMlpNorm ||
         role == TensorRole::kFinalNorm || role == TensorRole::kQueryNorm ||
         role == TensorRole::kKeyNorm;
}

// The standard deviation of a tensor's values. A matrix keeps the size of its input: 1 / sqrt(inputs).
float Spread(const MicroModelOptions& options, const TensorSpec& spec) {
  if (spec.shape.size() == 1) return 0.1f;
  const float unit = 1.0f / std::sqrt(static_cast<float>(spec.shape[1]));
  switch (spec.role) {
    case TensorRole::kTokenEmbedding: return options.tied_head ? options.logit_scale * unit : 1.0f;
    case TensorRole::kHead: return options.logit_scale * unit;
    case TensorRole::kOutput: case TensorRole::kDown: return options.depth_scale * unit;
    case TensorRole::kQuery: case TensorRole::kKey: return 1.5f * unit;  // attention that chooses
    default: return unit;
  }
}

DType WeightType(StoredType type) {
  if (type == StoredType::kF16) return DType::kF16;
  return type == StoredType::kBf16 ? DType::kBF16 : DType::kF32;
}

MemoryTensor MakeTensor(const MicroModelOptions& options, const TensorSpec& spec) {
  MemoryTensor tensor;
  tensor.name = spec.name;
  tensor.type = options.type;
  tensor.shape = spec.shape;
  const int64_t elements = engine::NumElements(spec.shape);
  const DType type = WeightType(options.type);
  tensor.bytes.resize(elements * engine::DTypeBytes(type));
  Random values(Mix(options.seed, spec.name));
  Random noise(Mix(options.noise_seed, spec.name));
  const float spread = Spread(options, spec);
  const float mean = IsNorm(spec.role) ? 1.0f : 0.0f;
  for (int64_t i = 0; i < elements; ++i) {
    float value = mean + spread * values.Normal();
    if (options.noise != 0.0f) value += options.noise * spread * noise.Normal();
    engine::StoreF32(value, type, tensor.bytes.data(), i);
  }
  return tensor;
}

absl::Status WriteText(const std::filesystem::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  return out ? absl::OkStatus() : BadFile(path.string(), "cannot be written");
}

}  // namespace

std::string MicroModelConfig(const MicroModelOptions& options) {
  nlohmann::json config = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"vocab_size", options.vocabulary_size},
      {"hidden_size", options.hidden_size},
      {"num_hidden_layers", options.num_layers},
      {"num_attention_heads", options.num_heads},
      {"num_key_value_heads", options.num_kv_heads},
      {"head_dim", options.head_dim},
      {"intermediate_size", options.intermediate_size},
      {"max_position_embeddings", options.max_positions},
      {"rms_norm_eps", 1e-5},
      {"rope_theta", 10000.0},
      {"hidden_act", "silu"},
      {"tie_word_embeddings", options.tied_head},
      {"attention_bias", options.biases},
      {"mlp_bias", options.biases},
      {"eos_token_id", nullptr},
      {"torch_dtype", options.type == StoredType::kF16    ? "float16"
                      : options.type == StoredType::kBf16 ? "bfloat16"
                                                          : "float32"}};
  if (!options.eos_token_ids.empty()) config["eos_token_id"] = options.eos_token_ids;
  return config.dump(2);
}

std::vector<MemoryTensor> MicroModelTensors(const MicroModelOptions& options) {
  const auto config = engine::ReadModelConfig("<micro model>", MicroModelConfig(options)).value();
  std::vector<MemoryTensor> tensors;
  for (const TensorSpec& spec : engine::FindFamily(config.architecture)->list_tensors(config)) {
    tensors.push_back(MakeTensor(options, spec));
  }
  return tensors;
}

std::unique_ptr<engine::ModelSource> MakeMicroModel(const MicroModelOptions& options) {
  return engine::MakeMemorySource("<micro model>", MicroModelConfig(options),
                                  MicroModelTensors(options));
}

absl::Status WriteMicroModel(const MicroModelOptions& options, const std::string& folder,
                             const std::string& tokenizer_from) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(folder, error);
  const fs::path to(folder);
  absl::Status written = WriteText(to / "config.json", MicroModelConfig(options));
  if (!written.ok()) return written;
  nlohmann::json generation = {{"eos_token_id", options.eos_token_ids}};
  if (options.eos_token_ids.empty()) generation = nlohmann::json::object();
  written = WriteText(to / "generation_config.json", generation.dump(2));
  if (!written.ok()) return written;
  const std::vector<MemoryTensor> tensors = MicroModelTensors(options);
  std::vector<engine::StoredTensor> stored;
  for (const MemoryTensor& tensor : tensors) {
    stored.push_back({tensor.name, tensor.type, "", tensor.shape, tensor.bytes, ""});
  }
  written = engine::WriteSafetensors((to / "model.safetensors").string(), stored);
  if (!written.ok() || tokenizer_from.empty()) return written;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
    const fs::path from = fs::path(tokenizer_from) / name;
    if (!fs::exists(from)) continue;
    if (!fs::copy_file(from, to / name, fs::copy_options::overwrite_existing, error)) {
      return BadFile((to / name).string(), "cannot be written: " + error.message());
    }
  }
  return absl::OkStatus();
}

}  // namespace mirrorsd::testing
