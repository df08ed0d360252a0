#pragma once
// Somebody who sees a simulated life as its core does, e.g. to record it.

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "scheduler/core/core.h"
#include "scheduler/core/events.h"

namespace mirrorsd::simulate {

class Watcher {
 public:
  virtual ~Watcher() = default;
  // Once, before the first event.
  virtual void OnConfig(const scheduler::CoreConfig& config) = 0;
  // Before each step, and what the core answered to it.
  virtual void OnEvent(absl::Time now, const scheduler::Event& event) = 0;
  virtual void OnActions(absl::Span<const scheduler::Action> actions) = 0;
};

}  // namespace mirrorsd::simulate
