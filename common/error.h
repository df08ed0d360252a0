#pragma once
// The one way that a failure of the world is told: absl::Status with one payload, ErrorInfo. It is
// mapped once to gRPC details and once to HTTP bodies (services/). Not for our own bugs: those are
// CHECKs. Pure functions, callable from any thread.

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mirrorsd {

struct ErrorInfo {
  std::string reason;  // a stable word in capitals, e.g. "INVALID_FIELD", "QUEUE_FULL", "VERIFIER_LOST"
  std::string field;   // the field or the file that was wrong; empty where there is none
  std::string limit;   // the limit that was met, as text; empty where there is none
  bool retryable = false;

  bool operator==(const ErrorInfo&) const = default;
};

// A status with the payload. `message` is for people: it says what was wrong and the way out.
absl::Status MakeError(absl::StatusCode code, absl::string_view message, const ErrorInfo& info);

// INVALID_ARGUMENT with reason INVALID_FIELD: a request, an option or a message field is wrong.
// `limit` is what is allowed, e.g. "0 to 131072". The message becomes "FIELD: MESSAGE (limit: LIMIT)".
absl::Status InvalidField(absl::string_view field, absl::string_view message,
                          absl::string_view limit = "");

// INVALID_ARGUMENT with reason BAD_FILE: a file that we were told to read is wrong.
absl::Status BadFile(absl::string_view path, absl::string_view message,
                     absl::string_view limit = "");

// NOT_FOUND with reason MISSING_FILE.
absl::Status MissingFile(absl::string_view path, absl::string_view message);

// RESOURCE_EXHAUSTED, retryable.
absl::Status Overloaded(absl::string_view reason, absl::string_view message,
                        absl::string_view limit = "");

// UNAVAILABLE, retryable.
absl::Status Unavailable(absl::string_view reason, absl::string_view message);

// The payload, if the status carries one.
std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status);

}  // namespace mirrorsd
