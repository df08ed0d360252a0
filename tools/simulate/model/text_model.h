#pragma once
// What the modelled target, its early exit and the draft say, as chances instead of logits. The target's token is a
// hash of the request and its tokens so far; the draft has the same token as its r-th best with the chances
// of a table, else others; the exit lists it at a rank drawn likewise, with scores whose gaps tell how
// sure it is. So streams are consistent whatever is asked in whatever order, and the same in every run
// of one seed. Not a language model: tokens are independent of each other given the kind of text.
// Pure functions, callable from any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "common/worker_messages.h"

namespace mirrorsd::simulate {

inline constexpr int32_t kVocabulary = 32000;

// The tokens of one request so far, as one number.
using Prefix = uint64_t;

inline uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

inline Prefix Extend(Prefix prefix, TokenId token) {
  return Mix(prefix ^ static_cast<uint64_t>(token + 1)) + 0x9e3779b97f4a7c15ull;
}

// A number in [0, 1) that depends on the prefix and on what it is for.
inline double Chance(Prefix prefix, uint64_t what_for) {
  return static_cast<double>(Mix(prefix ^ Mix(what_for + 0x632be59bd9b4e019ull)) >> 11) * 0x1p-53;
}

// The chance that something is among the k best, by k: straight lines between the points, nothing at 0, constant
// beyond the last.
class RecallCurve {
 public:
  RecallCurve() = default;
  // `points` are (k, chance), k from 1 increasing, chances in [0, 1] that never fall.
  explicit RecallCurve(std::vector<std::pair<int32_t, double>> points)
      : points_(std::move(points)) {}

  double At(int32_t k) const;
  // The rank (from 0) that `chance`, uniform in [0, 1), stands for; none: it is in no list.
  std::optional<int32_t> Rank(double chance) const;
  const std::vector<std::pair<int32_t, double>>& points() const { return points_; }

 private:
  std::vector<std::pair<int32_t, double>> points_;
};

// One kind of text.
struct TextKind {
  std::string name;
  double weight = 1;               // its share of the requests, relative to the others'
  std::vector<double> acceptance;  // by depth of the rollout, the last for all beyond: the draft's best is the target's
  RecallCurve own_rank;            // where it is not: the target's is among the draft's next k
  RecallCurve exit_given_reject;   // the correction token is among the exit's k best others, given a reject
  RecallCurve exit_all;            // the target's token is among the exit's k best, of all rows
};

class TextModel {
 public:
  // At least one kind, at most 256; weights positive.
  TextModel(std::vector<TextKind> kinds, uint64_t seed);

  // A request's kind by chance, and the sampling seed that carries it to the workers.
  uint64_t RequestSeed(uint64_t request_index) const;
  const TextKind& KindOf(uint64_t request_seed) const { return kinds_[request_seed % 256]; }
  Prefix Begin(uint64_t request_seed) const { return Mix(seed_ ^ Mix(request_seed + 1)); }

  TokenId Target(Prefix prefix) const;
  // The draft's `rank`-th best (from 0) after `prefix`, as the `depth`-th token of a rollout.
  TokenId Draft(const TextKind& kind, Prefix prefix, int32_t depth, int32_t rank) const;
  // The exit's row after `prefix`; `drafted` is the window token that follows there, if one does.
  EarlyExitRow Exit(const TextKind& kind, Prefix prefix, std::optional<TokenId> drafted,
                    int32_t top_k) const;

 private:
  std::vector<TextKind> kinds_;
  std::vector<double> shares_;  // cumulative, to 1
  uint64_t seed_;
};

}  // namespace mirrorsd::simulate
