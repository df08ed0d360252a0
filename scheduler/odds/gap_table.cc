#include "scheduler/odds/gap_table.h"

#include <algorithm>
#include <cmath>

namespace mirrorsd::scheduler {
namespace {

// Bounds of the buckets, on either side of zero. Near zero the outcome is open and a step of the gap says most.
constexpr std::array<double, 13> kBounds = {0.125, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 32};
static_assert(2 * (kBounds.size() + 1) == GapTable::kNumBuckets);

// What a bucket without trials is worth, and how many trials outweigh that.
constexpr double kPriorTrials = 4;
// Old trials fade, so that the table follows the text it is used on.
constexpr double kMaxTrials = 4096;

double Prior(double margin) { return 0.5 + 0.5 * margin / (1 + std::abs(margin)); }

struct Scores {
  double best = 0;
  double second = 0;
  int num = 0;

  void Add(double score) {
    if (num == 0 || score > best) {
      second = best;
      best = score;
    } else if (num == 1 || score > second) {
      second = score;
    }
    ++num;
  }
  // With nothing to compare with a token stands alone: as far above as the table goes.
  double Margin(double score) const {
    if (num < 2) return kBounds.back();
    return score >= best ? score - second : score - best;
  }
};

Scores Gather(const EarlyExitRow& row) {
  Scores scores;
  if (row.drafted_score.has_value()) scores.Add(*row.drafted_score);
  for (const Candidate& candidate : row.candidates) scores.Add(candidate.score);
  return scores;
}

}  // namespace

int GapTable::BucketOf(double margin) {
  const int magnitude = static_cast<int>(
      std::upper_bound(kBounds.begin(), kBounds.end(), std::abs(margin)) - kBounds.begin());
  constexpr int kSide = kNumBuckets / 2;
  return margin >= 0 ? kSide + magnitude : kSide - 1 - magnitude;
}

double GapTable::Probability(bool drafted, double margin) const {
  const Bucket& bucket = buckets_[drafted ? 1 : 0][BucketOf(margin)];
  return (bucket.wins + kPriorTrials * Prior(margin)) / (bucket.trials + kPriorTrials);
}

void GapTable::Learn(bool drafted, double margin, bool was_the_targets) {
  Bucket& bucket = buckets_[drafted ? 1 : 0][BucketOf(margin)];
  bucket.trials += 1;
  bucket.wins += was_the_targets ? 1 : 0;
  if (bucket.trials < kMaxTrials) return;
  bucket.trials /= 2;
  bucket.wins /= 2;
}

RowOdds GapTable::Odds(const EarlyExitRow& row) const {
  const Scores scores = Gather(row);
  RowOdds odds;
  double sum = 0;
  if (row.drafted_score.has_value()) {
    odds.drafted = Probability(true, scores.Margin(*row.drafted_score));
    sum += odds.drafted;
  }
  const size_t num = std::min<size_t>(row.candidates.size(), kMaxBranchTopK);
  for (size_t k = 0; k < num; ++k) {
    odds.candidates[k] = Probability(false, scores.Margin(row.candidates[k].score));
    sum += odds.candidates[k];
  }
  if (sum <= 1) return odds;
  odds.drafted /= sum;
  for (size_t k = 0; k < num; ++k) odds.candidates[k] /= sum;
  return odds;
}

void GapTable::LearnRow(const EarlyExitRow& row, std::optional<TokenId> drafted, TokenId truth) {
  const Scores scores = Gather(row);
  if (row.drafted_score.has_value()) {
    Learn(true, scores.Margin(*row.drafted_score), drafted == truth);
  }
  for (const Candidate& candidate : row.candidates) {
    Learn(false, scores.Margin(candidate.score), candidate.token == truth);
  }
}

}  // namespace mirrorsd::scheduler
