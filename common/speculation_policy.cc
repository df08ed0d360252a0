#include "common/speculation_policy.h"

namespace mirrorsd {

const char* SpeculationModeName(SpeculationMode mode) {
  constexpr const char* kNames[] = {"default", "off", "serial", "two_cohorts", "mirror", "auto"};
  return kNames[static_cast<size_t>(mode)];
}

const char* MissFallbackName(MissFallback fallback) {
  constexpr const char* kNames[] = {"empty", "ngram", "hold"};
  return kNames[static_cast<size_t>(fallback)];
}

}  // namespace mirrorsd
