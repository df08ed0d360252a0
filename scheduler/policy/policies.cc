#include "scheduler/policy/policies.h"

namespace mirrorsd::scheduler {

absl::Span<const SpeculationPolicy> Policies() {
  static constexpr SpeculationPolicy kPolicies[] = {
      {"no_speculation", SpeculationMode::kOff, DecideNoSpeculation},
      {"fixed_window", SpeculationMode::kSerial, DecideFixedWindow},
      {"two_cohorts", SpeculationMode::kTwoCohorts, DecideFixedWindow, 2},
      {"mirror_branching", SpeculationMode::kMirror, DecideMirrorBranching},
  };
  return kPolicies;
}

}  // namespace mirrorsd::scheduler
