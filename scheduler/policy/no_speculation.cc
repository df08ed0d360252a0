#include "scheduler/policy/policies.h"

namespace mirrorsd::scheduler {

void DecideNoSpeculation(const CohortOutlook& cohort, absl::Span<const SequenceOutlook> sequences,
                         absl::Span<PolicyDecision> decisions) {
  for (PolicyDecision& decision : decisions) decision.window = 0;
}

}  // namespace mirrorsd::scheduler
