#pragma once
// One simulated life of a cell: the real core of the scheduler in virtual time, modelled workers, and requests as a
// workload has them. Everything that decides is the code that a scheduler runs; only devices, models and
// the network are modelled. One seed gives one life, bit for bit. Not thread-safe; makes no thread and reads
// no clock but for what the simulation itself costs.

#include <cstdint>
#include <vector>

#include "common/request.h"
#include "common/speculation_policy.h"
#include "tools/simulate/figures.h"
#include "tools/simulate/fleet/worker.h"
#include "tools/simulate/load/workload.h"
#include "tools/simulate/model/text_model.h"
#include "tools/simulate/watcher.h"

namespace mirrorsd::simulate {

struct Settings {
  SpeculationMode mode = SpeculationMode::kOff;
  int32_t num_speculative_tokens = 4;
  int32_t branch_top_k = 4;
  int32_t branch_budget = 64;
  MissFallback miss_fallback = MissFallback::kEmpty;
  int32_t max_num_seqs = 256;
  int32_t max_prefill_rows_per_round = 256;

  int32_t num_verifiers = 1;
  int32_t num_drafts = 1;
  WorkerSpec verifier;  // names and jitter seeds are made from these
  WorkerSpec draft;
  std::vector<TextKind> kinds;
  Workload workload;
  uint64_t seed = 1;
};

// Runs until every request has ended. `watcher` may be null.
Figures Simulate(const Settings& settings, Watcher* watcher = nullptr);

}  // namespace mirrorsd::simulate
