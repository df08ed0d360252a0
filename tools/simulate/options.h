#pragma once
// The command line of mirrorsd-simulate: one table of options, each with its help and its limits. A wrong one
// is named with what is allowed. Reads the files that options name. Not thread-safe.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/simulate/simulation.h"

namespace mirrorsd::simulate {

struct Command {
  bool help = false;
  bool version = false;
  std::vector<SpeculationMode> modes;  // each is simulated with the same settings
  Settings settings;
  std::string json;   // file that the lines of results are appended to; empty: none
  std::string svg;    // folder of the plots; empty: none
  std::string label;
  std::string journal;            // file that the simulated lives are recorded in; empty: none
  std::string text_from_journal;  // recorded lives that the main reads, for it knows the format
  std::string load_from_journal;
};

// `arguments` without the program's name.
// Errors:  INVALID_FIELD naming the option and its limit; what is wrong with a file, by line and field
absl::StatusOr<Command> ParseCommand(const std::vector<std::string>& arguments);

std::string HelpText();

}  // namespace mirrorsd::simulate
