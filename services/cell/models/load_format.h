#pragma once
// Which models a program was told to use: folders (--model, --draft-model) or a twin (--load-format twin:...), which
// stands for both. Mains call CheckLoadFormat once, before anything is made of the options; the rest is pure, but
// for reading the file that the twin's shape may name.

#include <optional>

#include "absl/status/status.h"
#include "services/config/options.h"
#include "workers/engine/model/twins/twin_spec.h"

namespace mirrorsd::cell {

// Errors:  INVALID_FIELD (ReportOptions tells it as a usage error) for another format, for folders beside a twin, for
//          a twin that is wrong in itself; BAD_FILE, MISSING_FILE for the file that it names, and for an architecture
//          that the engine cannot run
absl::Status CheckLoadFormat(const config::Options& options);

// The twin; none where the format is another, or wrong.
std::optional<engine::TwinSpec> TwinOf(const config::Options& options);

// A target, and a draft, by whichever option.
bool HasModel(const config::Options& options);
bool HasDraft(const config::Options& options);

}  // namespace mirrorsd::cell
