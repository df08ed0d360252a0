#include "workers/engine/model/rope_frequencies.h"

#include "common/ieee_math.h"

namespace mirrorsd::engine {
namespace {

// Wave lengths beyond the original context are stretched by `factor`, short ones stay, between the two the
// stretch grows smoothly.
double Llama3Frequency(const RopeConfig& rope, double frequency) {
  constexpr double kTwoPi = 6.283185307179586476925;
  const double turns = rope.original_max_positions * frequency / kTwoPi;  // over the original context
  if (turns < rope.low_freq_factor) return frequency / rope.factor;
  if (turns > rope.high_freq_factor) return frequency;
  const double smooth =
      (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

}  // namespace

std::vector<float> RopeInverseFrequencies(const RopeConfig& rope, int32_t head_dim) {
  std::vector<float> frequencies;
  for (int32_t i = 0; i < head_dim / 2; ++i) {
    double frequency = Pow(rope.theta, -2.0 * i / head_dim);
    if (rope.kind == RopeKind::kLinear) frequency /= rope.factor;
    if (rope.kind == RopeKind::kLlama3) frequency = Llama3Frequency(rope, frequency);
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

}  // namespace mirrorsd::engine
