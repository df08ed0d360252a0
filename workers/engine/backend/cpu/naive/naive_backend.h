#pragma once
// The plainest CPU backend: scalar loops, sums in double, libm. The reference that kernels are read
// against; for tests and for doubt, not for use.

#include <cstdint>
#include <memory>

#include "workers/engine/backend/backend.h"

namespace mirrorsd::engine::cpu {

std::unique_ptr<Backend> MakeNaiveBackend(int32_t num_threads);

}  // namespace mirrorsd::engine::cpu
