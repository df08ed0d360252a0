#include "services/text/rust_call.h"

#include "common/error.h"

namespace mirrorsd::text {

absl::Status FromRust(int32_t code, const RustBytes& error, const Subject& subject) {
  if (code == MIRRORSD_TEXT_OK) return absl::OkStatus();
  const std::string message(error.view());
  if (code == MIRRORSD_TEXT_PANIC && !subject.is_file) {
    return MakeError(absl::StatusCode::kInternal, subject.name + ": " + message,
                     {"TEXT_LIBRARY_PANIC", subject.name, "", false});
  }
  return subject.is_file ? BadFile(subject.name, message) : InvalidField(subject.name, message);
}

}  // namespace mirrorsd::text
