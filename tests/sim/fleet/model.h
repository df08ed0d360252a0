#pragma once
// The "models" of the simulation: the next token is a function of the committed prefix (and of the
// numerics_id, as rounding would have it), so that every output can be checked exactly. A prefix is
// carried as one running hash. And the seeded generator that every choice comes from. Pure functions.

#include <cstdint>

#include "absl/types/span.h"
#include "common/ids.h"

namespace mirrorsd::sim {

inline constexpr int32_t kVocabulary = 50;
inline constexpr int32_t kDraftVocabulary = 53;  // padded further than the target's
inline constexpr TokenId kEndToken = 7;

inline uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// A sequence of tokens as one number.
using Prefix = uint64_t;
inline constexpr Prefix kEmptyPrefix = 0x9e3779b97f4a7c15ull;

inline Prefix Extend(Prefix prefix, TokenId token) {
  return Mix(prefix ^ static_cast<uint64_t>(token + 1)) + 0x9e3779b97f4a7c15ull;
}

inline Prefix PrefixOf(absl::Span<const TokenId> tokens) {
  Prefix prefix = kEmptyPrefix;
  for (const TokenId token : tokens) prefix = Extend(prefix, token);
  return prefix;
}

// A number in [0, bound) that depends on the prefix and on what it is for.
inline uint64_t Choice(Prefix prefix, uint64_t what_for, uint64_t bound) {
  return Mix(prefix ^ Mix(what_for + 0x632be59bd9b4e019ull)) % bound;
}

// `numerics`: 0, 1, ... as in numerics_id "n0", "n1", ...
inline TokenId TargetToken(Prefix prefix, int numerics) {
  return static_cast<TokenId>(Choice(prefix, static_cast<uint64_t>(numerics), kVocabulary));
}

// Agrees with numerics 0 in `agreement` of 100 cases, and now and then names an id that the target lacks.
inline TokenId DraftToken(Prefix prefix, int agreement) {
  const uint64_t luck = Choice(prefix, 77, 100);
  const TokenId token = TargetToken(prefix, 0);
  if (luck < static_cast<uint64_t>(agreement)) return token;
  return luck % 5 == 0 ? kVocabulary + 1 : (token + 1) % kVocabulary;
}

// The draft's own r-th best token; rank 0 is the one that it drafts. No two ranks are the same.
inline TokenId DraftRanked(Prefix prefix, int agreement, int rank) {
  return (DraftToken(prefix, agreement) - rank + kDraftVocabulary) % kDraftVocabulary;
}

// A small seeded generator; the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  // A generator of its own for each thing, so that leaving one thing out does not change the others.
  Random(uint64_t seed, uint64_t what, uint64_t which = 0)
      : state_(Mix(seed + Mix(what + Mix(which + 0x9e3779b97f4a7c15ull)))) {}
  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15ull); }
  // In [low, high].
  int64_t Uniform(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Next() % static_cast<uint64_t>(high - low + 1));
  }
  bool OneIn(int64_t n) { return Uniform(1, n) == 1; }

 private:
  uint64_t state_;
};

}  // namespace mirrorsd::sim
