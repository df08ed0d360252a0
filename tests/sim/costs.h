#pragma once
// The clock that steps are measured by.

#include <cstdint>

namespace mirrorsd::sim {

// CPU time of the calling thread: others on the same core do not count.
int64_t ThreadNs();

}  // namespace mirrorsd::sim
