#pragma once
// argv into (option, text) pairs, by CLI11, which command_line.cc alone sees. Types, limits and precedence
// are options.h's. Pure; callable from any thread.

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "services/config/options.h"

namespace mirrorsd::config {

struct ParsedCommandLine {
  bool help = false;
  std::vector<std::pair<std::string, std::vector<std::string>>> given;  // option name, its texts
};

// Errors:  an option that the command does not take (with the closest one), a missing value, an option
//          given twice, a stray word
absl::StatusOr<ParsedCommandLine> ParseCommandLine(const CommandSpec& command,
                                                   const std::vector<std::string>& arguments);

}  // namespace mirrorsd::config
