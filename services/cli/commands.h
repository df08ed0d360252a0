#pragma once
// The commands of `mirrorsd`. Each runs once, from main, and returns the process's exit code.

#include <string>
#include <vector>

#include "services/cell/exit_code.h"
#include "services/config/options.h"

namespace mirrorsd::cli {

using cell::ExitCode;

ExitCode RunServe(const config::Options& options);
// The same with the four role programs, which lie beside this one, as children.
ExitCode RunServeSeparately(const config::Options& options);
ExitCode RunGenerate(const config::Options& options);
ExitCode RunLogits(const config::Options& options);
ExitCode RunChat(const config::Options& options);
ExitCode RunDoctor(const config::Options& options);
ExitCode RunMakeTwin(const config::Options& options);
ExitCode RunTrace(const config::Options& options);

// The option sets, usage and notes of every program (command_specs.cc).
const config::CommandSpec& SpecOf(config::Program program);

}  // namespace mirrorsd::cli
