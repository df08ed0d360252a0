#include "services/bench/tune/tune_choice.h"

#include <algorithm>

#include "scheduler/policy/latency_law.h"

namespace mirrorsd::bench {
namespace {

using scheduler::RoundPhases;

absl::Duration DraftDepth(const TuneSetting& setting, int64_t rows) {
  const absl::Duration step = absl::Nanoseconds(setting.draft_step.base_ns) +
                              (rows - 1) * absl::Nanoseconds(setting.draft_step.per_row_ns);
  return std::max(step, absl::Nanoseconds(1));
}

RoundPhases Phases(const TuneSetting& setting, const ExitLayer& exit) {
  RoundPhases phases;
  phases.prefix = exit.prefix;
  phases.suffix = exit.suffix;
  phases.done = setting.done;
  return phases;
}

}  // namespace

Prediction PredictMirror(const TuneSetting& setting, const ExitLayer& exit, size_t top_k_index) {
  Prediction result{.layer = exit.layer, .branch_top_k = measure::kRecallTopKs[top_k_index]};
  // What the budget leaves of K at each row.
  const int64_t rows = int64_t{setting.batch} * (setting.window + 1);
  while (top_k_index > 0 && rows * measure::kRecallTopKs[top_k_index] > setting.branch_budget) --top_k_index;
  const double recall = exit.recall[top_k_index];
  const double after_reject = exit.recall_given_reject[top_k_index];

  RoundPhases phases = Phases(setting, exit);
  phases.exit_head = exit.exit_head;
  phases.relay = setting.relay;
  const int64_t branches =
      std::min<int64_t>(setting.branch_budget, rows * measure::kRecallTopKs[top_k_index]);
  const absl::Duration per_depth = DraftDepth(setting, std::max<int64_t>(branches, 1));
  phases.p1_residual = per_depth;
  result.depth = scheduler::FreeDepth(phases, per_depth, setting.window);
  phases.used_depth = result.depth * per_depth;
  result.round = scheduler::MirrorRound(phases);

  const double best = std::max(recall, exit.agreement);  // of a row without a drafted token
  double reached = 1;
  for (int32_t row = 0; row < result.depth; ++row) {
    result.hit_rate += reached * (1 - exit.agreement) * after_reject;
    reached *= exit.agreement;
  }
  result.hit_rate += reached * best;
  if (result.depth > 0) {
    const double windows = scheduler::ShareOfWindows(result.hit_rate, best);
    result.tokens = windows * scheduler::ExpectedTokens(exit.agreement, result.depth) + (1 - windows);
  } else {
    result.hit_rate = 0;
  }
  result.speed = scheduler::Speed(result.tokens, result.round);
  return result;
}

Prediction BestMirror(const TuneSetting& setting, const std::vector<ExitLayer>& exits) {
  Prediction best;
  for (const ExitLayer& exit : exits) {
    for (size_t k = 0; k < measure::kRecallTopKs.size(); ++k) {
      const Prediction one = PredictMirror(setting, exit, k);
      if (best.layer == 0 || one.speed > best.speed) best = one;
    }
  }
  return best;
}

double PlainSpeed(const TuneSetting& setting) {
  return scheduler::Speed(1, setting.plain_pass + setting.done);
}

double SerialSpeed(const TuneSetting& setting, const ExitLayer& exit) {
  RoundPhases phases = Phases(setting, exit);
  phases.relay = setting.relay;
  phases.used_depth = setting.window * DraftDepth(setting, setting.batch);
  return scheduler::Speed(scheduler::ExpectedTokens(exit.agreement, setting.window),
                          scheduler::SerialRound(phases));
}

}  // namespace mirrorsd::bench
