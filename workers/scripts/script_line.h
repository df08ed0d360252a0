#pragma once
// One line of a draft script from and to JSON. Every number is bounded and unknown keys are refused. Pure
// functions; only for draft_script.cc, which has the file.

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "workers/scripts/draft_script.h"

namespace mirrorsd::scripts {

// Errors: BAD_FILE naming `place` ("FILE:LINE"), the field and the limit.
absl::Status ParseHeaderLine(absl::string_view place, absl::string_view line,
                             std::string* model_name, int32_t* vocabulary_size);
absl::StatusOr<ScriptRecord> ParseRecordLine(absl::string_view place, absl::string_view line,
                                             int32_t vocabulary_size, const ScriptLimits& limits);

// a-z, 0-9, _ and -; 1 to 64 of them.
bool IsKind(absl::string_view text);

}  // namespace mirrorsd::scripts
