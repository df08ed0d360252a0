#pragma once
// How long the pieces of one pass of a model take, each layer by itself, apart from any serving: what tells where an
// early exit would cut it and what its head would cost. On an engine whose steps are paced, the emulated
// device's times. Blocks for as long as the passes take. Not thread-safe.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/engine/engine.h"
#include "workers/engine/tensor/clock.h"

namespace mirrorsd::measure {

// Medians, in nanoseconds.
struct PassTimes {
  int64_t begin_ns = 0;                // embedding and what a pass costs to begin
  std::vector<int64_t> layers_ns;      // [L]
  int64_t exit_head_ns = 0;            // final norm and head after an inner layer, all rows
  int64_t final_head_ns = 0;

  // Units: `early_exit_layer` is a number of layers, 0 to L
  int64_t PrefixNs(int32_t early_exit_layer) const;
  int64_t SuffixNs(int32_t early_exit_layer) const;  // with the final head
};

struct PassShapeWanted {
  int32_t sequences = 1;
  int32_t rows = 1;      // of each sequence, all with logits
  int32_t context = 64;  // tokens before them
  int32_t repeats = 15;
};

// Errors:  INVALID_FIELD where rows, context or KV do not suffice; what the engine fails at
absl::StatusOr<PassTimes> MeasurePassTimes(engine::Engine* engine, engine::Clock* clock,
                                           const PassShapeWanted& wanted);

}  // namespace mirrorsd::measure
