#include "scheduler/odds/branch_odds.h"

#include <algorithm>
#include <array>

namespace mirrorsd::scheduler {
namespace {

// Of the outcomes that are not the draft's best token: how many are its next ones.
constexpr std::array<double, 3> kNextShares = {0.45, 0.18, 0.09};

}  // namespace

void AcceptanceRecord::Learn(int32_t num_accepted, bool rejected) {
  constexpr double kWeight = 1.0 / 32;
  for (int32_t row = 0; row < num_accepted; ++row) rate_ += (1 - rate_) * kWeight;
  if (rejected) rate_ -= rate_ * kWeight;
}

void AddOwnBranches(int32_t sequence, int32_t window_size, double acceptance_rate,
                    std::vector<BranchOption>* options) {
  const auto add = [&](int32_t num_accepted, int32_t rank, double probability) {
    if (probability < kMinBranchProbability) return;
    options->push_back({sequence, {num_accepted, std::nullopt, rank}, probability});
  };
  double reached = 1;
  for (int32_t row = 0; row < window_size; ++row) {
    for (size_t rank = 0; rank < kNextShares.size(); ++rank) {
      add(row, static_cast<int32_t>(rank), reached * (1 - acceptance_rate) * kNextShares[rank]);
    }
    reached *= acceptance_rate;
  }
  add(window_size, 0, reached * acceptance_rate);
  for (size_t rank = 0; rank < kNextShares.size(); ++rank) {
    add(window_size, static_cast<int32_t>(rank) + 1,
        reached * (1 - acceptance_rate) * kNextShares[rank]);
  }
}

void AddCandidateBranches(int32_t sequence, absl::Span<const EarlyExitRow> rows,
                          const GapTable& gaps, std::vector<BranchOption>* options) {
  double reached = 1;
  for (size_t row = 0; row < rows.size() && reached >= kMinBranchProbability; ++row) {
    const RowOdds odds = gaps.Odds(rows[row]);
    const size_t num = std::min<size_t>(rows[row].candidates.size(), kMaxBranchTopK);
    for (size_t k = 0; k < num; ++k) {
      const double probability = reached * odds.candidates[k];
      if (probability < kMinBranchProbability) continue;
      options->push_back({sequence,
                          {static_cast<int32_t>(row), rows[row].candidates[k].token, -1},
                          probability});
    }
    reached *= odds.drafted;
  }
}

void KeepMostLikely(int32_t budget, std::vector<BranchOption>* options) {
  const size_t num = std::min(options->size(), static_cast<size_t>(std::max(budget, 0)));
  // A stable sort: the caller adds in order of sequence and row.
  std::stable_sort(options->begin(), options->end(),
                   [](const BranchOption& a, const BranchOption& b) {
                     return a.probability > b.probability;
                   });
  options->resize(num);
}

}  // namespace mirrorsd::scheduler
