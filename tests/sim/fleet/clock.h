#pragma once
// Virtual time: what is due happens in order of time, then of asking. Not thread-safe.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace mirrorsd::sim {

class VirtualClock {
 public:
  absl::Time now() const { return now_; }
  absl::Duration elapsed() const { return now_ - start_; }

  void After(absl::Duration delay, std::function<void()> what) {
    pending_.push_back({now_ + std::max(delay, absl::ZeroDuration()), next_order_++, std::move(what)});
    std::push_heap(pending_.begin(), pending_.end());
  }
  // The machine that everything runs on stands still: what was due meanwhile happens at its end.
  void StandStill(absl::Duration duration) { now_ += duration; }

  // False if nothing is pending.
  bool RunNext() {
    if (pending_.empty()) return false;
    std::pop_heap(pending_.begin(), pending_.end());
    const Pending next = std::move(pending_.back());
    pending_.pop_back();
    now_ = std::max(now_, next.at);
    next.what();
    return true;
  }
  void Clear() { pending_.clear(); }

 private:
  struct Pending {
    absl::Time at;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Pending& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };
  const absl::Time start_ = absl::UnixEpoch() + absl::Hours(1);
  absl::Time now_ = start_;
  uint64_t next_order_ = 0;
  std::vector<Pending> pending_;  // a heap
};

}  // namespace mirrorsd::sim
