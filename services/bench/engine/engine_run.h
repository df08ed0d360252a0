#pragma once
// Runs the steps of step_cases.h on an engine, each once in every repeat, with the machine's limits measured
// between them. Blocks for as long as it takes. One thread.

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/bench/engine/step_cases.h"
#include "workers/engine/limits/machine_limits.h"

namespace mirrorsd::bench {

struct MeasuredStep {
  StepCase step;
  StepCost cost;
  std::vector<double> seconds;  // by repeat
};

struct EngineMeasurement {
  std::vector<MeasuredStep> steps;
  std::vector<engine::MachineLimits> limits;  // by repeat
  double other_load_cores = 0;                // kept busy by other processes
  int num_threads = 0;

  // The best that the machine was seen to do.
  engine::MachineLimits BestLimits() const;
};

// Told before every step.
using EngineProgress = std::function<void(int64_t done, int64_t total, const std::string& now)>;

// The engine's passes must hold settings.MaxRows() rows, its KV the longest context, them, and the copies.
// `num_threads` is what the engine was given, for the limits.
// Errors:  those of the engine's passes; RESOURCE_EXHAUSTED where its KV is too small
absl::StatusOr<EngineMeasurement> RunEngineBench(const EngineBenchSettings& settings, engine::Engine* engine,
                                                 engine::LimitsMeter* meter, int num_threads,
                                                 const EngineProgress& progress);

// Blocks of KV that the settings ask for.
int NumKvBlocks(const EngineBenchSettings& settings, int block_tokens);

}  // namespace mirrorsd::bench
