#pragma once
// A measured run as one JSON line: date, commit where the build knew it, machine, command, what was measured and the
// figures. Lines are appended to files like those of docs/results. Not thread-safe.

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"

namespace mirrorsd::bench {

// The head of a line; `figures` and whatever else belongs to the run are the caller's to add.
//   command: as it was typed (CommandLine())
//   what:    one phrase for people
nlohmann::ordered_json ResultHead(const std::string& command, const std::string& what);

// Appends the line to `path` (made where it does not exist).
// Errors:  BAD_FILE where it cannot be written
absl::Status AppendLine(const std::string& path, const nlohmann::ordered_json& line);

// Errors:  BAD_FILE where it cannot be written
absl::Status WriteTextFile(const std::string& path, const std::string& text);

// This process's command line, the program by its name alone, words with blanks quoted.
std::string CommandLine();

// A number with as many digits as a figure deserves (four), so that lines stay readable.
double Rounded(double value);

}  // namespace mirrorsd::bench
