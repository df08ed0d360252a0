#pragma once
// What of a measured run was set and not found. Every report of such a run says *synthetic*. Pure functions, but for
// reading the file that a twin's shape may name.

#include <string>
#include <vector>

#include "services/config/options.h"

namespace mirrorsd::bench {

// "weights" (a twin), "step times" (a device profile), "agreement" (a scripted draft); empty where all is real.
std::vector<std::string> SyntheticParts(const config::Options& options);

// --label, else `otherwise`; with its synthetic parts behind it, unless it has the word.
std::string RunLabel(const config::Options& options, const std::string& otherwise);

// A sentence for the end of a table; empty where all is real.
std::string SyntheticNote(const config::Options& options);

}  // namespace mirrorsd::bench
