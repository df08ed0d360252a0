#pragma once
// The "models" of the simulation: the next token is a function of the committed prefix (and of the
// numerics_id, as rounding would have it), so that every output can be checked exactly. Pure functions.

#include <cstdint>
#include <string>

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

inline uint64_t HashPrefix(absl::Span<const TokenId> prefix, uint64_t salt) {
  uint64_t hash = Mix(salt + 0x9e3779b97f4a7c15ull);
  for (const TokenId token : prefix) hash = Mix(hash ^ static_cast<uint64_t>(token + 1));
  return hash;
}

// `numerics`: 0, 1, ... as in numerics_id "n0", "n1", ...
inline TokenId TargetToken(absl::Span<const TokenId> prefix, int numerics) {
  return static_cast<TokenId>(HashPrefix(prefix, numerics) % kVocabulary);
}

// Agrees with numerics 0 in `agreement` of 100 cases, and now and then names an id that the target lacks.
inline TokenId DraftToken(absl::Span<const TokenId> prefix, int agreement) {
  const uint64_t luck = HashPrefix(prefix, 77) % 100;
  const TokenId token = TargetToken(prefix, 0);
  if (luck < static_cast<uint64_t>(agreement)) return token;
  return luck % 5 == 0 ? kVocabulary + 1 : (token + 1) % kVocabulary;
}

// A small seeded generator; the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
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
