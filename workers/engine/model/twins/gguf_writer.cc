#include "workers/engine/model/twins/gguf_writer.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "nlohmann/json.hpp"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/loader/safetensors.h"
#include "workers/engine/model/twins/twin_text.h"
#include "workers/engine/model/twins/twin_weights.h"

namespace mirrorsd::engine {
namespace {

constexpr uint32_t kVersion = 3;
constexpr int64_t kAlignment = 32;
constexpr uint32_t kF32 = 0, kBf16 = 30;                // types of tensors
constexpr uint32_t kFileF32 = 0, kFileBf16 = 32;        // general.file_type
enum ValueType : uint32_t { kU32 = 4, kI32 = 5, kFloat = 6, kBool = 7, kString = 8, kArray = 9 };

// Little endian, as GGUF is; so are the machines that this engine runs on.
class Bytes {
 public:
  template <typename Number>
  void Add(Number value) {
    char raw[sizeof(value)];
    std::memcpy(raw, &value, sizeof(value));
    text_.append(raw, sizeof(value));
  }
  void AddText(const std::string& text) {
    Add<uint64_t>(text.size());
    text_ += text;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class Metadata {
 public:
  void Text(const std::string& key, const std::string& value) { Key(key, kString).AddText(value); }
  void Count(const std::string& key, int64_t value) { Key(key, kU32).Add(static_cast<uint32_t>(value)); }
  void Real(const std::string& key, double value) { Key(key, kFloat).Add(static_cast<float>(value)); }
  void Flag(const std::string& key, bool value) { Key(key, kBool).Add<uint8_t>(value ? 1 : 0); }
  void Texts(const std::string& key, const std::vector<std::string>& values) {
    Bytes& out = Key(key, kArray);
    out.Add<uint32_t>(kString);
    out.Add<uint64_t>(values.size());
    for (const std::string& value : values) out.AddText(value);
  }
  void Integers(const std::string& key, const std::vector<int32_t>& values) {
    Bytes& out = Key(key, kArray);
    out.Add<uint32_t>(kI32);
    out.Add<uint64_t>(values.size());
    for (const int32_t value : values) out.Add(value);
  }
  uint64_t count() const { return count_; }
  const std::string& text() const { return bytes_.text(); }

 private:
  Bytes& Key(const std::string& key, ValueType type) {
    ++count_;
    bytes_.AddText(key);
    bytes_.Add<uint32_t>(type);
    return bytes_;
  }

  Bytes bytes_;
  uint64_t count_ = 0;
};

// Empty for a tensor that GGUF's llama does not have.
std::string GgufName(const TensorSpec& spec) {
  const std::string block = absl::StrCat("blk.", spec.layer, ".");
  switch (spec.role) {
    case TensorRole::kTokenEmbedding: return "token_embd.weight";
    case TensorRole::kFinalNorm: return "output_norm.weight";
    case TensorRole::kHead: return "output.weight";
    case TensorRole::kAttentionNorm: return block + "attn_norm.weight";
    case TensorRole::kQuery: return block + "attn_q.weight";
    case TensorRole::kKey: return block + "attn_k.weight";
    case TensorRole::kValue: return block + "attn_v.weight";
    case TensorRole::kOutput: return block + "attn_output.weight";
    case TensorRole::kMlpNorm: return block + "ffn_norm.weight";
    case TensorRole::kGate: return block + "ffn_gate.weight";
    case TensorRole::kUp: return block + "ffn_up.weight";
    case TensorRole::kDown: return block + "ffn_down.weight";
    default: return "";
  }
}

absl::Status CheckSayable(const ModelConfig& config, absl::Span<const TensorSpec> specs) {
  if (config.architecture != "LlamaForCausalLM" || config.rope.kind != RopeKind::kDefault) {
    return InvalidField("gguf", "is for Llama models with plain RoPE", "rope_type default");
  }
  for (const TensorSpec& spec : specs) {
    if (GgufName(spec).empty()) {
      return InvalidField("gguf", absl::StrCat("has no place for the tensor ", spec.name),
                          "a model without biases");
    }
  }
  return absl::OkStatus();
}

Metadata Describe(const TwinModel& model, const ModelConfig& config) {
  Metadata data;
  const bool f32 = model.spec.type == StoredType::kF32;
  data.Text("general.architecture", "llama");
  data.Text("general.name", absl::StrCat("synthetic ", TwinName(model)));
  data.Count("general.alignment", kAlignment);
  data.Count("general.file_type", f32 ? kFileF32 : kFileBf16);
  data.Count("llama.context_length", config.max_positions);
  data.Count("llama.embedding_length", config.hidden_size);
  data.Count("llama.block_count", config.num_layers);
  data.Count("llama.feed_forward_length", config.intermediate_size);
  data.Count("llama.attention.head_count", config.num_heads);
  data.Count("llama.attention.head_count_kv", config.num_kv_heads);
  data.Count("llama.attention.key_length", config.head_dim);
  data.Count("llama.attention.value_length", config.head_dim);
  data.Real("llama.attention.layer_norm_rms_epsilon", config.norm_eps);
  data.Count("llama.rope.dimension_count", config.head_dim);
  data.Real("llama.rope.freq_base", config.rope.theta);
  data.Count("llama.vocab_size", config.vocabulary_size);
  const nlohmann::json tokenizer = nlohmann::json::parse(TwinTextFiles(model.spec).at("tokenizer.json"));
  std::vector<std::string> tokens(static_cast<size_t>(config.vocabulary_size));
  for (const auto& [text, id] : tokenizer["model"]["vocab"].items()) tokens[id.get<size_t>()] = text;
  data.Text("tokenizer.ggml.model", "gpt2");
  data.Text("tokenizer.ggml.pre", "default");
  data.Texts("tokenizer.ggml.tokens", tokens);
  data.Integers("tokenizer.ggml.token_type", std::vector<int32_t>(tokens.size(), 1));  // all normal
  data.Texts("tokenizer.ggml.merges", {});
  data.Flag("tokenizer.ggml.add_bos_token", false);
  return data;
}

// The whole tensor as the file has it.
std::vector<uint8_t> Contents(const TwinSpec& spec, const ModelConfig& target, const TensorSpec& tensor) {
  TwinSpec stored = spec;
  if (tensor.shape.size() == 1) stored.type = StoredType::kF32;
  const int64_t element_bytes = GetStoredTypeInfo(stored.type).bytes_per_element;
  std::vector<uint8_t> bytes(static_cast<size_t>(NumElements(tensor.shape) * element_bytes));
  FillTwinTensor(stored, target, tensor, 0, absl::MakeSpan(bytes));
  if (tensor.role != TensorRole::kQuery && tensor.role != TensorRole::kKey) return bytes;
  const int64_t head = target.head_dim, row_bytes = tensor.shape[1] * element_bytes;
  std::vector<uint8_t> reordered(bytes.size());
  for (int64_t row = 0; row < tensor.shape[0]; ++row) {
    const int64_t in_head = row % head;
    const int64_t from = row - in_head + in_head / 2 + in_head % 2 * (head / 2);
    std::memcpy(reordered.data() + row * row_bytes, bytes.data() + from * row_bytes,
                static_cast<size_t>(row_bytes));
  }
  return reordered;
}

}  // namespace

absl::Status WriteTwinGguf(const TwinModel& model, const std::string& path, bool force,
                           const std::function<void(const LoadProgress&)>& on_progress) {
  if (absl::Status checked = CheckTwin(model.spec); !checked.ok()) return checked;
  std::error_code error;
  if (!force && std::filesystem::exists(path, error)) {
    return InvalidField("gguf", absl::StrCat(path, " is there"), "a new file, or --force");
  }
  const ModelConfig target = *ReadTwinConfig(model.spec);
  ModelConfig config = target;
  if (model.role == TwinRole::kDraft) config.num_layers = model.spec.draft_layers;
  const std::vector<TensorSpec> specs = FindFamily(config.architecture)->list_tensors(config);
  if (absl::Status sayable = CheckSayable(config, specs); !sayable.ok()) return sayable;

  const Metadata metadata = Describe(model, config);
  Bytes tensors;
  int64_t offset = 0;
  LoadProgress progress{.tensors_total = static_cast<int32_t>(specs.size())};
  for (const TensorSpec& spec : specs) {
    const bool f32 = spec.shape.size() == 1 || model.spec.type == StoredType::kF32;
    tensors.AddText(GgufName(spec));
    tensors.Add<uint32_t>(static_cast<uint32_t>(spec.shape.size()));
    for (size_t i = spec.shape.size(); i-- > 0;) tensors.Add<uint64_t>(static_cast<uint64_t>(spec.shape[i]));
    tensors.Add<uint32_t>(f32 ? kF32 : kBf16);
    tensors.Add<uint64_t>(static_cast<uint64_t>(offset));
    const int64_t size = NumElements(spec.shape) * (f32 ? 4 : 2);
    progress.bytes_total += size;
    offset += (size + kAlignment - 1) / kAlignment * kAlignment;
  }
  Bytes head;
  head.Add<uint32_t>(0x46554747);  // "GGUF"
  head.Add<uint32_t>(kVersion);
  head.Add<uint64_t>(specs.size());
  head.Add<uint64_t>(metadata.count());
  std::string header = head.text() + metadata.text() + tensors.text();
  header.resize((header.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');

  const std::string beside = path + ".partial";
  std::ofstream out(beside, std::ios::binary | std::ios::trunc);
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const TensorSpec& spec : specs) {
    if (!out) break;
    std::vector<uint8_t> bytes = Contents(model.spec, target, spec);
    progress.bytes_done += static_cast<int64_t>(bytes.size());
    ++progress.tensors_done;
    bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment, 0);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (on_progress) on_progress(progress);
  }
  out.close();
  if (!out || std::rename(beside.c_str(), path.c_str()) != 0) {
    std::remove(beside.c_str());
    return BadFile(path, "cannot be written: no such folder, no permission, or no room");
  }
  return absl::OkStatus();
}

}  // namespace mirrorsd::engine
