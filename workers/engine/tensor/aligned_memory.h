#pragma once
// Zeroed memory for activations, weights and KV: aligned to cache lines, large pieces to huge pages.
// Callable from any thread.

#include <cstdint>
#include <memory>

namespace mirrorsd::engine {

inline constexpr int64_t kCacheLineBytes = 64;

// Null where the system refuses, never an exception. Large pieces take physical memory only once touched.
// The memory is freed with the last copy of the pointer, on whichever thread that is.
std::shared_ptr<void> AllocateAligned(int64_t size_bytes);

}  // namespace mirrorsd::engine
