#include "services/cell/exit_code.h"

#include <cstdio>

namespace mirrorsd::cell {

ExitCode ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitDone;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return kExitBadInput;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
      return kExitUnavailable;
    default:
      return kExitInternal;
  }
}

ExitCode ReportFailure(const std::string& program, const absl::Status& status) {
  const std::string message(status.message());
  std::fprintf(stderr, "%s: %s\n", program.c_str(), message.c_str());
  return ExitCodeFor(status);
}

ExitCode ReportUsage(const std::string& program, const absl::Status& status) {
  ReportFailure(program, status);
  std::fprintf(stderr, "Try '%s --help'.\n", program.c_str());
  return kExitUsage;
}

const char* Version() { return MIRRORSD_VERSION; }

}  // namespace mirrorsd::cell
