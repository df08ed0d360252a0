#pragma once
// JSON as we take it from files: bounded in size, depth and number of values, no key twice in an object,
// valid UTF-8. Pure function over bytes; never throws.

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace mirrorsd::engine {

struct JsonLimits {
  size_t max_bytes = 1 << 20;
  int max_depth = 16;
  size_t max_values = 1 << 18;  // objects, arrays, keys and scalars together
};

// Errors: BAD_FILE naming `path`, what was wrong and where, and the limit.
absl::StatusOr<nlohmann::json> ParseStrictJson(absl::string_view path, absl::string_view text,
                                               const JsonLimits& limits = {});

}  // namespace mirrorsd::engine
