#pragma once
// Chances of the text model as people write them, and as results of `mirrorsd bench agreement` have them.
// Pure functions, callable from any thread; LoadKinds reads a file.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tools/simulate/model/text_model.h"

namespace mirrorsd::simulate {

// "0.8" or "0.9,0.85,0.8": by depth.
// Errors:  INVALID_FIELD naming `field` and the limit, here and below
absl::StatusOr<std::vector<double>> ParseChances(absl::string_view field, absl::string_view text);

// "1:0.5,4:0.8": k increasing, chances that do not fall.
absl::StatusOr<RecallCurve> ParseCurve(absl::string_view field, absl::string_view text);

// The kinds of text of the last line of `text` (of a file like docs/results/agreement.jsonl) whose "what" is `label`,
// at `temperature`: agreement for acceptance, exit recall for both curves. The category "all" is left out; a kind
// weighs as much as it has prompts.
// Errors:  BAD_FILE naming `path`, the line and the field
absl::StatusOr<std::vector<TextKind>> ParseKinds(absl::string_view path, absl::string_view text,
                                                 const std::string& label,
                                                 const std::string& temperature);
absl::StatusOr<std::vector<TextKind>> LoadKinds(const std::string& path, const std::string& label,
                                                const std::string& temperature);

}  // namespace mirrorsd::simulate
