#pragma once
// `mirrorsd tune`: runs once, from main.

#include "services/cell/exit_code.h"
#include "services/config/options.h"

namespace mirrorsd::bench {

cell::ExitCode RunTune(const config::Options& options);

}  // namespace mirrorsd::bench
