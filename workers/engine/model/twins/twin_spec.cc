#include "workers/engine/model/twins/twin_spec.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "nlohmann/json.hpp"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/loader/safetensors.h"

namespace mirrorsd::engine {
namespace {

constexpr int32_t kMinVocabulary = 256;  // the bytes
constexpr double kMaxLogitScale = 100.0;

absl::Status CheckReal(absl::string_view name, double value, double lowest, double highest) {
  if (std::isfinite(value) && value >= lowest && value <= highest) return absl::OkStatus();
  return InvalidField(name, absl::StrCat("is ", value), absl::StrCat(lowest, " to ", highest));
}

}  // namespace

int32_t DefaultDraftLayers(int32_t num_layers) {
  return std::min(num_layers, std::max(2, (num_layers + 3) / 6));
}

int32_t DefaultExitLayer(int32_t num_layers) { return std::max(1, num_layers / 2); }

absl::StatusOr<ModelConfig> ReadTwinConfig(const TwinSpec& spec) {
  return ReadModelConfig(absl::StrCat("<twin ", spec.name, ">/config.json"), spec.config_json);
}

absl::Status CheckTwin(const TwinSpec& spec) {
  const absl::StatusOr<ModelConfig> config = ReadTwinConfig(spec);
  if (!config.ok()) return config.status();
  if (config->vocabulary_size < kMinVocabulary) {
    return InvalidField("vocab_size", absl::StrCat("is ", config->vocabulary_size),
                        "at least 256: a twin's tokens begin with the bytes");
  }
  if (spec.draft_layers < 0 || spec.draft_layers > config->num_layers) {
    return InvalidField("draft-layers", absl::StrCat("is ", spec.draft_layers),
                        absl::StrCat("0 (no draft) to ", config->num_layers, ", the target's layers"));
  }
  if (spec.exit_layer < 1 || spec.exit_layer > config->num_layers) {
    return InvalidField("exit-layer", absl::StrCat("is ", spec.exit_layer),
                        absl::StrCat("1 to ", config->num_layers, ", the target's layers"));
  }
  if (spec.type != StoredType::kBf16 && spec.type != StoredType::kF32) {
    return InvalidField("dtype", "is neither", "bf16 or f32");
  }
  for (const absl::Status& status : {
           CheckReal("draft-damping", spec.draft_damping, 0.0, kMaxDamping),
           CheckReal("exit-damping", spec.exit_damping, 0.0, kMaxDamping),
           CheckReal("logit-scale", spec.logit_scale, 0.01, kMaxLogitScale),
       }) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::string TwinConfigJson(const TwinModel& model) {
  nlohmann::ordered_json config =
      nlohmann::ordered_json::parse(model.spec.config_json, nullptr, /*allow_exceptions=*/false);
  CHECK(config.is_object()) << "CheckTwin let it through";
  config["early_exit_layer"] = model.spec.exit_layer;
  if (model.role == TwinRole::kDraft) {
    config["num_hidden_layers"] = model.spec.draft_layers;
    config.erase("early_exit_layer");
  }
  config.erase("eos_token_id");
  config.erase("dtype");
  config["torch_dtype"] = model.spec.type == StoredType::kF32 ? "float32" : "bfloat16";
  return config.dump(2) + "\n";
}

double LayerDamping(const TwinSpec& spec, int32_t layer) {
  const bool draft_is_lower = spec.draft_layers > 0 && spec.draft_layers < spec.exit_layer;
  const int32_t low = spec.draft_layers == 0 ? spec.exit_layer
                                             : std::min(spec.draft_layers, spec.exit_layer);
  const int32_t high = std::max(spec.draft_layers, spec.exit_layer);
  if (layer < low) return 1.0;
  if (layer < high) return draft_is_lower ? spec.draft_damping : spec.exit_damping;
  return draft_is_lower || spec.draft_layers == 0 ? spec.exit_damping : spec.draft_damping;
}

int64_t TwinBytes(const TwinModel& model) {
  absl::StatusOr<ModelConfig> config = ReadTwinConfig(model.spec);
  CHECK(config.ok()) << "CheckTwin let it through";
  if (model.role == TwinRole::kDraft) config->num_layers = model.spec.draft_layers;
  int64_t elements = 0;
  for (const TensorSpec& tensor : FindFamily(config->architecture)->list_tensors(*config)) {
    elements += NumElements(tensor.shape);
  }
  return elements * GetStoredTypeInfo(model.spec.type).bytes_per_element;
}

std::string TwinName(const TwinModel& model) {
  return absl::StrCat("<twin ", model.spec.name, model.role == TwinRole::kDraft ? " draft>" : ">");
}

}  // namespace mirrorsd::engine
