#include "services/runtime/clock.h"

#include <time.h>

#include <fstream>
#include <random>

#include "absl/strings/str_cat.h"

namespace mirrorsd::runtime {

int64_t MonotonicNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

absl::Time MonotonicNow() { return absl::FromUnixNanos(MonotonicNanos()); }

const std::string& BootId() {
  static const std::string* const boot_id = [] {
    auto* id = new std::string;
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    if (!std::getline(file, *id) || id->empty()) {
      std::random_device random;
      *id = absl::StrCat("process-", absl::Hex(random(), absl::kZeroPad8),
                         absl::Hex(random(), absl::kZeroPad8));
    }
    return id;
  }();
  return *boot_id;
}

}  // namespace mirrorsd::runtime
