#pragma once
// What a process says when it ends: the codes of every program of ours, and one line for people. Pure, but
// for ReportFailure, which writes to standard error.

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mirrorsd::cell {

enum ExitCode : int {
  kExitDone = 0,
  kExitInternal = 1,
  kExitUsage = 2,
  kExitBadInput = 3,  // a bad request, file or model
  kExitUnavailable = 4,
  kExitInterrupted = 130,
};

// What was typed wrongly, as opposed to what is wrong with a request or a file: ends as kExitUsage.
absl::Status UsageError(absl::string_view option, absl::string_view message);

ExitCode ExitCodeFor(const absl::Status& status);

// Prints "PROGRAM: message" (and a hint at --help after a usage error) and returns the code.
ExitCode ReportFailure(const std::string& program, const absl::Status& status);
// The same for a status that is a usage error whatever it says, as all of ResolveOptions are.
ExitCode ReportUsage(const std::string& program, const absl::Status& status);
// The same for what was looked at behind ResolveOptions: a usage error where an option's value is wrong
// (INVALID_FIELD), else the failure that it is.
ExitCode ReportOptions(const std::string& program, const absl::Status& status);

const char* Version();

}  // namespace mirrorsd::cell
