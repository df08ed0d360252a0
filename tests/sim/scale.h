#pragma once
// One schedule of the size that the core is meant for: 4,096 live sequences, 64 verifiers, 256 drafts, with
// faults, its outputs checked, and what the core's steps cost. Not thread-safe.

#include <cstdint>

#include "tests/sim/plan/plan.h"

namespace mirrorsd::sim {

inline constexpr int kScaleSequences = 4096;
inline constexpr int kScaleVerifiers = 64;
inline constexpr int kScaleDrafts = 256;

Plan MakeScalePlan(uint64_t seed);

// Runs one and prints what it cost. Returns the exit code.
int RunScale(uint64_t seed);

}  // namespace mirrorsd::sim
