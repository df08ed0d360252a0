#pragma once
// The CPU backend for use: vector kernels for the widest instruction set of this processor.

#include <cstdint>
#include <memory>
#include <string>

#include "workers/engine/backend/backend.h"

namespace mirrorsd::engine::cpu {

std::unique_ptr<Backend> MakeSimdBackend(int32_t num_threads);

// The instruction set that MakeSimdBackend would use now, e.g. "AVX2".
std::string SimdTarget();

}  // namespace mirrorsd::engine::cpu
