#pragma once
// CLOCK_MONOTONIC, the one clock of this program's inside: what the core calls now and what the wire calls
// *_ns. Not wall time. Callable from any thread.

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace mirrorsd::runtime {

// Nanoseconds since the host booted.
int64_t MonotonicNanos();

// The same as an absl::Time, whose epoch is the host's boot: comparable with its like only.
absl::Time MonotonicNow();

// Names the boot that those nanoseconds count from: times of two processes compare only where it is
// equal. From the kernel; where the kernel does not tell, a random word of this process.
const std::string& BootId();

}  // namespace mirrorsd::runtime
