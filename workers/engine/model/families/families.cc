#include "workers/engine/model/families/families.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error.h"
#include "workers/engine/model/families/llama.h"
#include "workers/engine/model/families/mistral.h"
#include "workers/engine/model/families/opt.h"
#include "workers/engine/model/families/qwen2.h"
#include "workers/engine/model/families/qwen3.h"
#include "workers/engine/model/loader/strict_json.h"

namespace mirrorsd::engine {
namespace {

using nlohmann::json;

// Architecture, model_type, how to read the config, which tensors.
constexpr Family kFamilies[] = {
    {"LlamaForCausalLM", "llama", &ReadLlamaConfig, &ListLlamaTensors},
    {"MistralForCausalLM", "mistral", &ReadMistralConfig, &ListLlamaTensors},
    {"Qwen2ForCausalLM", "qwen2", &ReadQwen2Config, &ListLlamaTensors},
    {"Qwen3ForCausalLM", "qwen3", &ReadQwen3Config, &ListLlamaTensors},
    {"OPTForCausalLM", "opt", &ReadOptConfig, &ListOptTensors},
};

absl::Status Unsupported(absl::string_view path, absl::string_view what) {
  return BadFile(path, what, absl::StrCat("supported: ", SupportedArchitectures()));
}

// Which family the file means: by "architectures", else by "model_type".
absl::StatusOr<const Family*> ChooseFamily(absl::string_view path, const json& config) {
  const auto architectures = config.find("architectures");
  if (architectures != config.end() && architectures->is_array() && !architectures->empty()) {
    std::string named;
    for (const json& architecture : *architectures) {
      if (!architecture.is_string()) continue;
      const std::string& name = architecture.get_ref<const std::string&>();
      if (const Family* family = FindFamily(name)) return family;
      if (named.size() < 200) absl::StrAppend(&named, named.empty() ? "" : ", ", name.substr(0, 100));
    }
    return Unsupported(path, absl::StrCat("the architecture ", named, " is not supported"));
  }
  const auto model_type = config.find("model_type");
  if (model_type != config.end() && model_type->is_string()) {
    for (const Family& family : kFamilies) {
      if (*model_type == family.model_type) return &family;
    }
    return Unsupported(path, absl::StrCat("the model_type ",
                                          model_type->get<std::string>().substr(0, 100),
                                          " is not supported"));
  }
  return Unsupported(path, "names neither \"architectures\" nor \"model_type\"");
}

}  // namespace

absl::Span<const Family> Families() { return kFamilies; }

const Family* FindFamily(absl::string_view architecture) {
  for (const Family& family : kFamilies) {
    if (architecture == family.architecture) return &family;
  }
  return nullptr;
}

std::string SupportedArchitectures() {
  return absl::StrJoin(kFamilies, ", ", [](std::string* out, const Family& family) {
    out->append(family.architecture);
  });
}

absl::StatusOr<ModelConfig> ReadModelConfig(absl::string_view path, absl::string_view text) {
  absl::StatusOr<json> parsed = ParseStrictJson(path, text);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return BadFile(path, "is not a JSON object");
  absl::StatusOr<const Family*> family = ChooseFamily(path, *parsed);
  if (!family.ok()) return family.status();

  absl::Status status;
  ConfigFields fields(path, *parsed, &status);
  if (fields.Has("quantization_config")) {
    fields.Fail("quantization_config", "is there: the weights are quantized",
                "weights as F32, F16 or BF16");
  }
  ModelConfig config;
  config.architecture = (*family)->architecture;
  config.model_type = (*family)->model_type;
  (*family)->read_config(&fields, &config);
  config.eos_token_ids = fields.Ids("eos_token_id", 0, config.vocabulary_size - 1);
  config.stored_dtype = fields.StringOr("dtype", fields.StringOr("torch_dtype", ""));
  if (!status.ok()) return status;
  return config;
}

}  // namespace mirrorsd::engine
