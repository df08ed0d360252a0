#pragma once
// Repeats a recorded life: a core of the recorded configuration takes every event at its time, and what it
// does is compared with what was done. Not thread-safe; no state outside.

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "services/journal/reader.h"

namespace mirrorsd::journal {

// One event and what the core answered.
struct ReplayStep {
  uint64_t number = 0;  // the first event of a life is 1
  const wire::RecordedEvent* recorded = nullptr;
  absl::Span<const scheduler::Action> actions;
};

struct ReplayReport {
  uint64_t num_events = 0;
  uint64_t num_actions = 0;
  uint64_t num_proven = 0;  // events up to the last checkpoint that agreed
  std::string difference;   // at the first checkpoint that did not; empty: none
};

// Repeats what `reader` has left, up to the first difference.
// Errors:  of the reader; BAD_FILE for a ring, for a policy that this build does not have, and for events
//          that no scheduler takes
absl::StatusOr<ReplayReport> Replay(JournalReader* reader,
                                    const std::function<void(const ReplayStep&)>& on_step);

// The configuration with the policies of this build in it.
// Errors:  BAD_FILE naming the policy that is missing
absl::StatusOr<scheduler::CoreConfig> ConfigOf(const wire::RecordedLife& life);

}  // namespace mirrorsd::journal
