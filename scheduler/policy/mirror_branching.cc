#include <algorithm>

#include "scheduler/policy/policies.h"

namespace mirrorsd::scheduler {

void DecideMirrorBranching(const CohortOutlook& cohort, absl::Span<const SequenceOutlook> sequences,
                           absl::Span<PolicyDecision> decisions) {
  for (size_t i = 0; i < sequences.size(); ++i) {
    const SequenceOutlook& sequence = sequences[i];
    // A window that is there already costs its rows, whether or not the draft is ready for more.
    decisions[i].window =
        std::clamp(sequence.requested_window, 0, std::max(0, sequence.remaining_tokens - 1));
    decisions[i].branch_top_k = sequence.requested_top_k;
    decisions[i].miss_fallback = cohort.miss_fallback;
  }
}

}  // namespace mirrorsd::scheduler
