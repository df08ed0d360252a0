#pragma once
// The four role programs: a role library, its HTTP listener, its signals, and its end. Each runs until SIGTERM
// or SIGINT (then it drains, and returns 0) or until its role is over. Called from main, once.

#include "services/cell/exit_code.h"
#include "services/config/options.h"

namespace mirrorsd::cell {

ExitCode RunGateway(const config::Options& options);
ExitCode RunScheduler(const config::Options& options);
ExitCode RunVerifierWorker(const config::Options& options);
ExitCode RunDraftWorker(const config::Options& options);

// What a program's main does: signals, options, logs, then `run`. `argv` is main's.
ExitCode RoleMain(const config::CommandSpec& command, int argc, char** argv,
                  ExitCode (*run)(const config::Options& options));

// The environment as ResolveOptions wants it.
std::vector<std::string> Environment();

}  // namespace mirrorsd::cell
