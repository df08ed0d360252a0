#pragma once
// What a process says when it ends: the codes of every program of ours, and one line for people. Pure, but
// for ReportFailure, which writes to standard error.

#include <string>

#include "absl/status/status.h"

namespace mirrorsd::cell {

enum ExitCode : int {
  kExitDone = 0,
  kExitInternal = 1,
  kExitUsage = 2,
  kExitBadInput = 3,  // a bad request, file or model
  kExitUnavailable = 4,
  kExitInterrupted = 130,
};

ExitCode ExitCodeFor(const absl::Status& status);

// Prints "PROGRAM: message" and returns the code.
ExitCode ReportFailure(const std::string& program, const absl::Status& status);
// The same for what was typed wrongly: kExitUsage, and a hint at --help.
ExitCode ReportUsage(const std::string& program, const absl::Status& status);

const char* Version();

}  // namespace mirrorsd::cell
