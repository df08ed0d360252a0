#pragma once
// `mirrorsd bench engine`: runs once, from main.

#include "services/cell/exit_code.h"
#include "services/config/options.h"

namespace mirrorsd::bench {

cell::ExitCode RunBenchEngine(const config::Options& options);

}  // namespace mirrorsd::bench
