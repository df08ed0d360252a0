#include "tools/simulate/model/text_model.h"

#include <algorithm>

#include "common/check.h"
#include "common/ieee_math.h"

namespace mirrorsd::simulate {
namespace {

// What chances are for.
enum : uint64_t { kTarget = 1, kOther, kDraftBest, kOwnRank, kExitRank, kExitOrder, kKind, kGap };

// A score of the exit falls from one place to the next by a gap of this mean; behind the first place, where that is
// the target's own token, by more: a sure exit is right more often. With these a table from gaps to chances
// has something to learn.
constexpr double kGapMean = 1;
constexpr double kSureGapMean = 4;
constexpr double kTopScore = 20;
// How often the exit puts a wrong drafted token above all others: where it has the right one as the best
// other, and where it has not.
constexpr double kFooledWhenRight = 0.25;
constexpr double kFooledWhenWrong = 0.6;

// The i-th token that is not the target's, of all that are likely there.
TokenId Other(Prefix prefix, TokenId target, int32_t i) {
  constexpr int32_t kRoom = 4096;  // ranks that never come round to the target's token
  const int32_t from = static_cast<int32_t>(Chance(prefix, kOther) * (kVocabulary - kRoom));
  return (target + 1 + from + i) % kVocabulary;
}

}  // namespace

double RecallCurve::At(int32_t k) const {
  std::pair<int32_t, double> from{0, 0};
  for (const auto& to : points_) {
    if (k <= to.first) {
      return from.second + (to.second - from.second) * (k - from.first) / (to.first - from.first);
    }
    from = to;
  }
  return from.second;
}

std::optional<int32_t> RecallCurve::Rank(double chance) const {
  if (points_.empty() || chance >= points_.back().second) return std::nullopt;
  int32_t rank = 0;
  while (chance >= At(rank + 1)) ++rank;
  return rank;
}

TextModel::TextModel(std::vector<TextKind> kinds, uint64_t seed)
    : kinds_(std::move(kinds)), seed_(Mix(seed + 0x7e57ull)) {
  CHECK(!kinds_.empty() && kinds_.size() <= 256);
  double sum = 0;
  for (const TextKind& kind : kinds_) shares_.push_back(sum += kind.weight);
  for (double& share : shares_) share /= sum;
}

uint64_t TextModel::RequestSeed(uint64_t request_index) const {
  const double chance = Chance(seed_ ^ Mix(request_index), kKind);
  const size_t kind = std::upper_bound(shares_.begin(), shares_.end(), chance) - shares_.begin();
  return request_index * 256 + std::min(kind, kinds_.size() - 1);
}

TokenId TextModel::Target(Prefix prefix) const {
  return static_cast<TokenId>(Chance(prefix, kTarget) * kVocabulary);
}

TokenId TextModel::Draft(const TextKind& kind, Prefix prefix, int32_t depth, int32_t rank) const {
  const TokenId target = Target(prefix);
  const size_t last = kind.acceptance.size() - 1;
  const double accepted = kind.acceptance[std::min<size_t>(depth, last)];
  std::optional<int32_t> target_rank = 0;
  if (Chance(prefix, kDraftBest) >= accepted) {
    target_rank = kind.own_rank.Rank(Chance(prefix, kOwnRank));
    if (target_rank.has_value()) ++*target_rank;
  }
  if (target_rank == rank) return target;
  return Other(prefix, target, target_rank.has_value() && *target_rank < rank ? rank - 1 : rank);
}

EarlyExitRow TextModel::Exit(const TextKind& kind, Prefix prefix, std::optional<TokenId> drafted,
                             int32_t top_k) const {
  const TokenId target = Target(prefix);
  const bool accepts = drafted == target;
  const bool rejects = drafted.has_value() && !accepts;
  const RecallCurve& curve = rejects ? kind.exit_given_reject : kind.exit_all;
  const int32_t beyond = top_k + 1;  // a place that is not reported
  const int32_t place = std::min(curve.Rank(Chance(prefix, kExitRank)).value_or(beyond), beyond);
  // The drafted token's place among them: that of the target's where it is the target's.
  int32_t drafted_place = -1;
  if (accepts) drafted_place = place;
  if (rejects) {
    const double fooled = place == 0 ? kFooledWhenRight : kFooledWhenWrong;
    const double chance = Chance(prefix, kExitOrder);
    drafted_place = chance < fooled ? 0 : place + 1 + static_cast<int32_t>(chance * 997) % 3;
  }
  EarlyExitRow row;
  double score = kTopScore;
  int32_t next_other = 0;
  int32_t others_seen = 0;  // places of the list without the drafted token
  for (int32_t i = 0; static_cast<int32_t>(row.candidates.size()) < top_k || i <= drafted_place;
       ++i) {
    bool is_target = false;
    if (i == drafted_place) {
      row.drafted_score = static_cast<float>(score);
      is_target = accepts;
    } else {
      is_target = !accepts && others_seen == place;
      ++others_seen;
      TokenId token = target;
      if (!is_target) {
        do {
          token = Other(prefix, target, next_other++);
        } while (drafted == token);
      }
      if (static_cast<int32_t>(row.candidates.size()) < top_k) {
        row.candidates.push_back({token, static_cast<float>(score)});
      }
    }
    const double mean = i == 0 && is_target ? kSureGapMean : kGapMean;
    score -= -mean * Log(1 - Chance(prefix, kGap + static_cast<uint64_t>(i)));
  }
  return row;
}

}  // namespace mirrorsd::simulate
