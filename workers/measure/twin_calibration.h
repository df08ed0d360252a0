#pragma once
// Finds the two factors of a twin for a wanted agreement of its draft and a wanted recall of its exit, both measured
// teacher-forced on the target's own greedy stream (agreement.h), and then measures what came of it on other prompts.
// Blocks for seconds (small shapes) to hours. Not thread-safe.
//
// The two shares are solved for in turn, each by bisection of the logarithm of its factor (by false position, which
// is bisection that looks at the values), with the same prompts and weights' noise at every step, until both are
// within the tolerance. Prompts are random tokens: no text is better than another for a random model.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/engine/engine.h"
#include "workers/engine/model/twins/twin_json.h"
#include "workers/measure/agreement.h"

namespace mirrorsd::measure {

// Sets of random prompts under one seed: factors are found on one, told of another, and `bench agreement` has its own.
inline constexpr uint32_t kCalibrationSet = 0;
inline constexpr uint32_t kMeasuredSet = 1;
inline constexpr uint32_t kBenchSet = 2;
std::vector<MeasuredPrompt> RandomPrompts(uint64_t seed, int32_t num_prompts, int32_t prompt_tokens,
                                          int32_t vocabulary_size, uint32_t set);

struct CalibrationOptions {
  int32_t num_prompts = 64;     // streams of one measurement
  int32_t prompt_tokens = 16;
  int32_t max_tokens = 64;      // of each stream
  int32_t batch = 32;
  double tolerance = 0.005;     // of both shares, on the prompts of the calibration
  int32_t max_measurements = 40;
  engine::EngineOptions engine; // backend and threads; the model is the twin
  // What was measured, for people, after each measurement; from the calling thread.
  std::function<void(const std::string& line)> on_progress;
};

// `record.measured` is of prompts that the factors were not found on.
// Errors: INVALID_FIELD for a wish that cannot be (engine::CheckWish) or was not reached, saying what was; those of
//         the engine
absl::StatusOr<engine::TwinRecord> CalibrateTwin(const engine::TwinSpec& spec,
                                                 const engine::TwinWish& wish,
                                                 const CalibrationOptions& options);

// The same measurement of a twin as it is.
absl::StatusOr<engine::TwinMeasured> MeasureTwin(const engine::TwinSpec& spec, int32_t recall_top_k,
                                                 const CalibrationOptions& options);

}  // namespace mirrorsd::measure
