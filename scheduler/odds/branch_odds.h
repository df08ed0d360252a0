#pragma once
// Which branches of a round are worth drafting, and how likely each is to be the outcome. Pure functions over what is
// known: before the exit reports (P1) only the draft's own record, after it (P2) the exit's scores through the
// gap table. Choosing among branches of many sequences is one sort by probability, for a branch costs the same
// wherever it is. Thread-safe: no state.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/worker_messages.h"
#include "scheduler/odds/gap_table.h"

namespace mirrorsd::scheduler {

// A branch that may be asked for. `sequence` is the caller's own index.
struct BranchOption {
  int32_t sequence = 0;
  RolloutRoot root;
  double probability = 0;  // that this is the outcome
};

// Below it a branch is not worth its rows.
inline constexpr double kMinBranchProbability = 0.01;

// How a draft has done on one sequence: the share of examined rows whose token was the target's, recent rows counting
// more.
class AcceptanceRecord {
 public:
  double rate() const { return rate_; }
  // A round's outcome: `num_accepted` rows were the target's own, and one more was not if `rejected`.
  void Learn(int32_t num_accepted, bool rejected);

 private:
  double rate_ = 0.7;
};

// P1: branches by the draft's own rank, after a window of `window_size` tokens, appended to `options`.
// At the row after the window the draft's best token is as likely as any drafted one; elsewhere, and further down its
// ranking, fixed shares of what is left stand in: they order the roots, the exit's scores correct them.
void AddOwnBranches(int32_t sequence, int32_t window_size, double acceptance_rate,
                    std::vector<BranchOption>* options);

// P2: branches by the exit's candidates. `window` is what the rows verify.
// Shapes: rows[window.size() + 1]
void AddCandidateBranches(int32_t sequence, absl::Span<const EarlyExitRow> rows,
                          const GapTable& gaps, std::vector<BranchOption>* options);

// Keeps the `budget` most likely, most likely first; ties by sequence, then by place.
void KeepMostLikely(int32_t budget, std::vector<BranchOption>* options);

}  // namespace mirrorsd::scheduler
