#pragma once
// The table of model families, and the way from a config.json to a ModelConfig. Pure functions.

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "workers/engine/model/families/family.h"

namespace mirrorsd::engine {

absl::Span<const Family> Families();

// Null where there is none.
const Family* FindFamily(absl::string_view architecture);

// "LlamaForCausalLM, ..."
std::string SupportedArchitectures();

// Reads a config.json of any supported family. `path` names the file in errors.
// Errors: BAD_FILE naming the field and its limit, or the architectures that are supported.
absl::StatusOr<ModelConfig> ReadModelConfig(absl::string_view path, absl::string_view text);

}  // namespace mirrorsd::engine
