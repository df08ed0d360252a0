#include "common/speculation_policy.h"

namespace mirrorsd {

const char* SpeculationModeName(SpeculationMode mode) {
  constexpr const char* kNames[] = {"default", "off", "serial", "two_cohorts", "mirror", "auto"};
  return kNames[static_cast<size_t>(mode)];
}

std::optional<SpeculationMode> FindSpeculationMode(std::string_view name) {
  for (const SpeculationMode mode : {SpeculationMode::kOff, SpeculationMode::kSerial, SpeculationMode::kTwoCohorts,
                                     SpeculationMode::kMirror, SpeculationMode::kAuto}) {
    if (name == SpeculationModeName(mode)) return mode;
  }
  return std::nullopt;
}

const char* MissFallbackName(MissFallback fallback) {
  constexpr const char* kNames[] = {"empty", "ngram", "hold"};
  return kNames[static_cast<size_t>(fallback)];
}

std::optional<MissFallback> FindMissFallback(std::string_view name) {
  for (const MissFallback fallback : {MissFallback::kEmpty, MissFallback::kNgram, MissFallback::kHold}) {
    if (name == MissFallbackName(fallback)) return fallback;
  }
  return std::nullopt;
}

}  // namespace mirrorsd
