#include "workers/engine/model/twins/shapes.h"

#include "absl/strings/str_join.h"

namespace mirrorsd::engine {
namespace {

// Sources: the config.json of each model's repository on Hugging Face.
constexpr NamedShape kShapes[] = {
    {"micro", "real ops of negligible cost: for schedulers and large batches",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
         "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
         "intermediate_size": 64, "vocab_size": 320, "max_position_embeddings": 4096,
         "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu",
         "tie_word_embeddings": false})"},
    {"small", "1.1 M parameters: for tests and for trying things out",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 96,
         "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24,
         "intermediate_size": 192, "vocab_size": 2048, "max_position_embeddings": 4096,
         "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu",
         "tie_word_embeddings": false})"},
    {"0.5b", "Qwen2.5-0.5B's dimensions as a Llama model, without its biases of q, k and v",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 896,
         "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 64,
         "intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 32768,
         "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "hidden_act": "silu",
         "tie_word_embeddings": true})"},
    {"1.5b", "Qwen2.5-1.5B's dimensions as a Llama model, without its biases of q, k and v",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1536,
         "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
         "head_dim": 128, "intermediate_size": 8960, "vocab_size": 151936,
         "max_position_embeddings": 32768, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
         "hidden_act": "silu", "tie_word_embeddings": true})"},
    {"llama-3.1-8b", "Llama-3.1-8B",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 128, "intermediate_size": 14336, "vocab_size": 128256,
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
         "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
         "hidden_act": "silu", "tie_word_embeddings": false})"},
    {"llama-3.3-70b", "Llama-3.3-70B",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8192,
         "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
         "head_dim": 128, "intermediate_size": 28672, "vocab_size": 128256,
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
         "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
         "hidden_act": "silu", "tie_word_embeddings": false})"},
    {"qwen3-14b", "Qwen3-14B",
     R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 5120,
         "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 8,
         "head_dim": 128, "intermediate_size": 17408, "vocab_size": 151936,
         "max_position_embeddings": 40960, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
         "hidden_act": "silu", "tie_word_embeddings": false})"},
    {"qwen3-32b", "Qwen3-32B",
     R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 5120,
         "num_hidden_layers": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
         "head_dim": 128, "intermediate_size": 25600, "vocab_size": 151936,
         "max_position_embeddings": 40960, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
         "hidden_act": "silu", "tie_word_embeddings": false})"},
    {"opt-66b", "OPT-66B",
     R"({"architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": 9216,
         "num_hidden_layers": 64, "num_attention_heads": 72, "ffn_dim": 36864,
         "word_embed_proj_dim": 9216, "vocab_size": 50272, "max_position_embeddings": 2048,
         "do_layer_norm_before": true, "activation_function": "relu",
         "tie_word_embeddings": true})"},
};

}  // namespace

absl::Span<const NamedShape> NamedShapes() { return kShapes; }

const NamedShape* FindShape(absl::string_view name) {
  for (const NamedShape& shape : kShapes) {
    if (name == shape.name) return &shape;
  }
  return nullptr;
}

std::string ShapeNames() {
  return absl::StrJoin(kShapes, ", ", [](std::string* out, const NamedShape& shape) {
    out->append(shape.name);
  });
}

}  // namespace mirrorsd::engine
