#include "tests/sim/minimiser.h"

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

namespace mirrorsd::sim {
namespace {

class Search {
 public:
  Search(const Plan& plan, const std::string& violation, const RunPlan& run)
      : best_{plan, violation, 0}, kind_(KindOf(violation)), run_(run) {}

  // Keeps `candidate` if it fails in the same way.
  bool Try(const Plan& candidate) {
    ++best_.num_runs;
    const std::string violation = run_(candidate);
    if (violation.empty() || KindOf(violation) != kind_) return false;
    best_.plan = candidate;
    best_.violation = violation;
    return true;
  }

  // Delta debugging: leaves out halves, then quarters, then single items, until none can go.
  template <typename Item>
  bool Thin(std::vector<Item> Plan::*items) {
    bool any = false;
    size_t size = std::max<size_t>(1, (best_.plan.*items).size() / 2);
    while (true) {
      bool found = false;
      for (size_t begin = 0; begin < (best_.plan.*items).size();) {
        Plan candidate = best_.plan;
        std::vector<Item>& left = candidate.*items;
        left.erase(left.begin() + begin, left.begin() + std::min(begin + size, left.size()));
        if (Try(candidate)) {
          found = any = true;
        } else {
          begin += size;
        }
      }
      if (size == 1 && !found) return any;
      size = std::max<size_t>(1, size / 2);
    }
  }

  template <typename Change>
  bool Simplify(Change change) {
    Plan candidate = best_.plan;
    return change(&candidate) && Try(candidate);
  }

  bool Straighten();
  bool ShortenClients();
  Minimised& best() { return best_; }

 private:
  Minimised best_;
  const std::string kind_;
  const RunPlan& run_;
};

bool Search::Straighten() {
  bool any = Simplify([](Plan* plan) { return std::exchange(plan->repeat_one_in, 0) != 0; });
  any |= Simplify([](Plan* plan) { return std::exchange(plan->jitter, false); });
  any |= Simplify([](Plan* plan) { return std::exchange(plan->joins_steps, false); });
  any |= Simplify([](Plan* plan) { return std::exchange(plan->exit_mute, 0) != 0; });
  any |= Simplify([](Plan* plan) { return std::exchange(plan->gives_up_one_in, 0) != 0; });
  any |= Simplify([](Plan* plan) {
    return std::exchange(plan->tick, absl::Nanoseconds(1)) != absl::Nanoseconds(1);
  });
  any |= Simplify([](Plan* plan) {
    const bool some = plan->drafts.size() > 0;
    if (some) plan->drafts.pop_back();
    return some;
  });
  any |= Simplify([](Plan* plan) {
    const bool some = plan->verifiers.size() > 1;
    if (some) plan->verifiers.pop_back();
    return some;
  });
  return any;
}

bool Search::ShortenClients() {
  bool any = false;
  for (size_t i = 0; i < best_.plan.clients.size(); ++i) {
    const auto each = [this, i](auto change) {
      return Simplify([&](Plan* plan) { return change(&plan->clients[i]); });
    };
    while (each([](PlannedClient* c) { return std::exchange(c->max_tokens, c->max_tokens / 2) > 1; })) {
      any = true;
    }
    while (each([](PlannedClient* c) {
      return std::exchange(c->prompt_length, c->prompt_length / 2) > 1;
    })) {
      any = true;
    }
    any |= each([](PlannedClient* c) { return std::exchange(c->retries, false); });
    any |= each([](PlannedClient* c) { return std::exchange(c->ends, false); });
    any |= each([](PlannedClient* c) { return std::exchange(c->slow_after, -1) != -1; });
    any |= each([](PlannedClient* c) { return std::exchange(c->speculates, false); });
    any |= each([](PlannedClient* c) {
      return std::exchange(c->cancels_after, absl::InfiniteDuration()) != absl::InfiniteDuration();
    });
    any |= each([](PlannedClient* c) {
      return std::exchange(c->deadline, absl::ZeroDuration()) != absl::ZeroDuration();
    });
  }
  return any;
}

}  // namespace

std::string KindOf(const std::string& violation) {
  std::string kind;
  for (const char c : violation) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) kind += c;
  }
  return kind;
}

Minimised Minimise(const Plan& failing, const std::string& violation, const RunPlan& run) {
  Search search(failing, violation, run);
  search.Simplify([](Plan* plan) {  // no more faults than are left
    const bool some = !plan->spare_faults.empty();
    plan->spare_faults.clear();
    plan->spare_clients.clear();
    return some;
  });
  for (bool better = true; better && search.best().num_runs < 3000;) {
    better = search.Thin(&Plan::faults);
    better |= search.Thin(&Plan::clients);
    better |= search.Thin(&Plan::spare_faults);
    better |= search.Straighten();
    better |= search.ShortenClients();
  }
  return search.best();
}

}  // namespace mirrorsd::sim
