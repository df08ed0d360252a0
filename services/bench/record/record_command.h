#pragma once
// `mirrorsd bench record`: asks a target for the prompts of a benchmark and writes what it said, as a script for a
// draft (workers/scripts). Runs once, from main.

#include "services/cell/exit_code.h"
#include "services/config/options.h"

namespace mirrorsd::bench {

cell::ExitCode RunBenchRecord(const config::Options& options);

}  // namespace mirrorsd::bench
