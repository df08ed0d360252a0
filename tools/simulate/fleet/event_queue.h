#pragma once
// Virtual time: what is due happens in order of time, then of asking. Nothing here waits for anything, so that a
// simulated hour takes as long as its events do. Not thread-safe.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

namespace mirrorsd::simulate {

inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

class EventQueue {
 public:
  int64_t now_ns() const { return now_ns_; }
  int64_t next_ns() const { return pending_.empty() ? kNever : pending_.front().at_ns; }
  int64_t num_done() const { return num_done_; }

  // `at_ns` that has passed means now.
  void At(int64_t at_ns, std::function<void()> what) {
    pending_.push_back({std::max(at_ns, now_ns_), next_order_++, std::move(what)});
    std::push_heap(pending_.begin(), pending_.end());
  }
  // Lets time pass without anything happening; not beyond next_ns().
  void AdvanceTo(int64_t at_ns) { now_ns_ = std::max(now_ns_, std::min(at_ns, next_ns())); }
  // Something must be pending.
  void RunNext() {
    std::pop_heap(pending_.begin(), pending_.end());
    const Pending next = std::move(pending_.back());
    pending_.pop_back();
    now_ns_ = next.at_ns;
    ++num_done_;
    next.what();
  }

 private:
  struct Pending {
    int64_t at_ns;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Pending& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : order > other.order;
    }
  };
  int64_t now_ns_ = 0;
  uint64_t next_order_ = 0;
  int64_t num_done_ = 0;
  std::vector<Pending> pending_;  // a heap
};

}  // namespace mirrorsd::simulate
