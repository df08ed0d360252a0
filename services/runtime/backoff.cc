#include "services/runtime/backoff.h"

#include <algorithm>
#include <utility>

namespace mirrorsd::runtime {

Backoff::Backoff(BackoffOptions options, std::function<uint64_t()> random)
    : options_(options), random_(std::move(random)), step_(options.first) {}

absl::Duration Backoff::Next() {
  const absl::Duration step = step_;
  step_ = std::min(step_ * 2, options_.most);
  const double fraction = static_cast<double>(random_() >> 11) * 0x1p-53;  // [0, 1)
  return step / 2 + fraction * (step / 2);
}

void Backoff::Reset() { step_ = options_.first; }

}  // namespace mirrorsd::runtime
