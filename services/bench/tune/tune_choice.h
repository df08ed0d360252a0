#pragma once
// Which early exit and how many candidates serve a pair of models best, predicted by the latency law from phases
// that were measured in isolation and from how far draft and exit go with the target. Predictions, no measurements of
// rounds: `mirrorsd bench rounds` has those. Pure functions, callable from any thread.
//
// Assumed: every row is accepted at the same rate, apart from the others; a window ends where the rollout of the
// branch that hit had come to when the suffix ended, for nothing waits; the roots of an exit wait for one depth that
// is under way; after a miss the next window is empty.

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "common/worker_messages.h"
#include "workers/measure/agreement.h"

namespace mirrorsd::bench {

// What is the same for every exit layer.
struct TuneSetting {
  int32_t window = 4;
  int32_t batch = 1;
  int32_t branch_budget = 64;
  StepTimes draft_step;
  absl::Duration plain_pass;  // of one row of each sequence
  absl::Duration relay = absl::Microseconds(200);  // exit report sent to roots at the draft
  absl::Duration done = absl::Microseconds(100);   // VerifyDone sent to the next StartVerify
};

// One exit layer as measured.
struct ExitLayer {
  int32_t layer = 0;
  absl::Duration prefix;
  absl::Duration exit_head;
  absl::Duration suffix;
  double agreement = 0;              // of the draft with the target
  std::array<double, 4> recall{};               // for K of measure::kRecallTopKs
  std::array<double, 4> recall_given_reject{};
};

struct Prediction {
  int32_t layer = 0;
  int32_t branch_top_k = 0;  // of measure::kRecallTopKs
  int32_t depth = 0;         // tokens of a branch that are there in time
  double hit_rate = 0;       // of rounds with a window
  absl::Duration round;
  double tokens = 1;         // of a round, empty windows included
  double speed = 0;          // tokens per second of one sequence
};

Prediction PredictMirror(const TuneSetting& setting, const ExitLayer& exit, size_t top_k_index);
// Over all layers and K; the lower layer and the fewer candidates among equals. `exits` not empty.
Prediction BestMirror(const TuneSetting& setting, const std::vector<ExitLayer>& exits);

// Tokens per second of one sequence without speculation, and with windows drafted between rounds.
double PlainSpeed(const TuneSetting& setting);
double SerialSpeed(const TuneSetting& setting, const ExitLayer& exit);

}  // namespace mirrorsd::bench
