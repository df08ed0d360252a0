// Any bytes as a config.json: either an error that names the file, or a model whose every number is within
// its limits, so that its tensor table can be listed and its frequencies computed.

#include <cmath>
#include <cstdint>
#include <string>

#include "common/check.h"
#include "common/error.h"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/loader/safetensors.h"
#include "workers/engine/model/rope_frequencies.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mirrorsd::engine;  // NOLINT
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<ModelConfig> config = ReadModelConfig("fuzz/config.json", text);
  if (!config.ok()) {
    const auto info = mirrorsd::GetErrorInfo(config.status());
    CHECK(info.has_value() && info->field == "fuzz/config.json");
    return 0;
  }
  CHECK(config->num_heads % config->num_kv_heads == 0 && config->head_dim % 2 == 0);
  CHECK(config->hidden_size >= 1 && config->vocabulary_size >= 1 && config->num_layers >= 1);
  for (const mirrorsd::TokenId id : config->eos_token_ids) {
    CHECK(id >= 0 && id < config->vocabulary_size);
  }
  for (const TensorSpec& spec : FindFamily(config->architecture)->list_tensors(*config)) {
    CHECK_GE(NumElements(spec.shape), 1);
  }
  for (const float frequency : RopeInverseFrequencies(config->rope, config->head_dim)) {
    CHECK(std::isfinite(frequency) && frequency >= 0);
  }
  return 0;
}
