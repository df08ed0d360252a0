#include "services/cell/exit_code.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::cell {
namespace {

constexpr char kUsage[] = "USAGE";

}  // namespace

absl::Status UsageError(absl::string_view option, absl::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(option, ": ", message),
                   {.reason = kUsage, .field = std::string(option)});
}

ExitCode ExitCodeFor(const absl::Status& status) {
  if (const auto info = GetErrorInfo(status); info.has_value() && info->reason == kUsage) {
    return kExitUsage;
  }
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
      return kExitUnavailable;
    case absl::StatusCode::kResourceExhausted:
      // gRPC's own, without our details, says that a message was too large: trying again is no use.
      return GetErrorInfo(status).has_value() ? kExitUnavailable : kExitBadInput;
    default:
      return kExitInternal;
  }
}

ExitCode ReportFailure(const std::string& program, const absl::Status& status) {
  const std::string message(status.message());
  std::fprintf(stderr, "%s: %s\n", program.c_str(), message.c_str());
  const ExitCode code = ExitCodeFor(status);
  if (code == kExitUsage) std::fprintf(stderr, "Try '%s --help'.\n", program.c_str());
  return code;
}

ExitCode ReportUsage(const std::string& program, const absl::Status& status) {
  const std::string message(status.message());
  std::fprintf(stderr, "%s: %s\nTry '%s --help'.\n", program.c_str(), message.c_str(),
               program.c_str());
  return kExitUsage;
}

ExitCode ReportOptions(const std::string& program, const absl::Status& status) {
  const auto info = GetErrorInfo(status);
  const bool of_usage = info.has_value() && info->reason == "INVALID_FIELD";
  return of_usage ? ReportUsage(program, status) : ReportFailure(program, status);
}

const char* Version() { return MIRRORSD_VERSION; }

}  // namespace mirrorsd::cell
