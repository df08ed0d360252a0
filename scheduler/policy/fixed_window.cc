#include <algorithm>

#include "scheduler/policy/policies.h"

namespace mirrorsd::scheduler {

void DecideFixedWindow(const CohortOutlook& cohort, absl::Span<const SequenceOutlook> sequences,
                       absl::Span<PolicyDecision> decisions) {
  for (size_t i = 0; i < sequences.size(); ++i) {
    const SequenceOutlook& sequence = sequences[i];
    // The correction token always comes on top, so a longer window could not be committed whole.
    decisions[i].window = sequence.draft_ready
                              ? std::clamp(sequence.requested_window, 0,
                                           std::max(0, sequence.remaining_tokens - 1))
                              : 0;
  }
}

}  // namespace mirrorsd::scheduler
