#pragma once
// The table of speculation policies. A policy is one pure function in its own file here and one row in
// policies.cc; it cannot touch KV, RPC or sampling, so it cannot break losslessness. Thread-safe: no state.

#include "absl/types/span.h"
#include "common/speculation_policy.h"

namespace mirrorsd::scheduler {

// Every mode that may be asked for has exactly one row.
absl::Span<const SpeculationPolicy> Policies();

// no_speculation.cc: every window is empty.
void DecideNoSpeculation(const CohortOutlook& cohort, absl::Span<const SequenceOutlook> sequences,
                         absl::Span<PolicyDecision> decisions);

// fixed_window.cc: the window that was asked for, wherever the draft is ready.
void DecideFixedWindow(const CohortOutlook& cohort, absl::Span<const SequenceOutlook> sequences,
                       absl::Span<PolicyDecision> decisions);

// mirror_branching.cc: the window that was asked for, its branches rolled out while the round runs.
void DecideMirrorBranching(const CohortOutlook& cohort, absl::Span<const SequenceOutlook> sequences,
                           absl::Span<PolicyDecision> decisions);

}  // namespace mirrorsd::scheduler
