#pragma once
// The counter noise that couples draft and target: the Gumbel noise G(seed, sample_index, position, token)
// is a pure function of its four arguments, the same bits wherever it is computed (DESIGN, Sampling).
// Header only; CUDA compiles it too. Pure functions, callable from any thread.
//
//   Philox4x32-10: key = seed, counter = (token / 4, output position, sample_index, stream);
//                  word token % 4 is the token's
//   uniform:       w in the open interval (0, 1) with 31 bits; u = 1 - w is kept as w, so that near u = 1,
//                  where the largest noise lies, the steps are fine enough for a large vocabulary
//   Gumbel:        G = -ln(-ln(u)) = -ln(-ln(1 - w)), -2.82 < G < 22.19
// Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011).

#include <cstdint>

#include "common/ids.h"
#include "common/ieee_math.h"

namespace mirrorsd {

// Uses of the generator under one seed; the last word of the counter.
inline constexpr uint32_t kTokenNoiseStream = 0;
inline constexpr uint32_t kPacingNoiseStream = 0x70616365;  // jitter of an emulated device
inline constexpr uint32_t kScriptNoiseStream = 0x73637269;  // what a scripted draft proposes

// One row of noise: which request's, which sample's, which output position's (0: the first generated
// token, counted from the original prompt's end).
struct NoiseKey {
  uint64_t seed = 0;
  uint32_t sample_index = 0;
  uint32_t position = 0;

  bool operator==(const NoiseKey&) const = default;
};

struct PhiloxBlock {
  uint32_t word[4];
};

// Ten rounds of Philox4x32.
MIRRORSD_HOST_DEVICE inline PhiloxBlock Philox4x32(PhiloxBlock counter, uint32_t key0,
                                                   uint32_t key1) {
  uint32_t c0 = counter.word[0], c1 = counter.word[1], c2 = counter.word[2], c3 = counter.word[3];
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * c0;
    const uint64_t product1 = uint64_t{0xCD9E8D57} * c2;
    const uint32_t next0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
    const uint32_t next2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c0 = next0;
    c1 = static_cast<uint32_t>(product1);
    c2 = next2;
    c3 = static_cast<uint32_t>(product0);
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

// w in [2^-32, 1 - 2^-24] from 31 of the bits, with the full relative precision of a float near 0.
MIRRORSD_HOST_DEVICE inline float UniformFromBits(uint32_t bits) {
  using namespace ieee;  // NOLINT: the operations below read as arithmetic
  // The last 64 values would round to 2^31 and w to 1; they become the float below. (Arithmetic rather
  // than a comparison: compilers turn that one into a branch and lose the vector loop.)
  const uint32_t k = bits >> 1;
  const uint32_t in_range = k - ((k + 64) >> 31) * 64;
  const float rounded = static_cast<float>(static_cast<int32_t>(in_range));
  return Mul(Add(rounded, 0.5f), 4.656612873077392578125e-10f);  // 2^-31
}

// -ln(-ln(1 - w)).
MIRRORSD_HOST_DEVICE inline float GumbelFromUniform(float w) {
  using namespace ieee;  // NOLINT
  const float u = Sub(1.0f, w);
  const float rounding = Sub(Sub(1.0f, u), w);  // exact: what u lost
  const float log_u = Add(LogNormalF(Bits<uint32_t>(u), 0), Div(rounding, u));
  return -LogNormalF(Bits<uint32_t>(-log_u), 0);
}

// The four words of the tokens [4 * quad, 4 * quad + 4).
MIRRORSD_HOST_DEVICE inline PhiloxBlock NoiseWords(const NoiseKey& key, uint32_t quad) {
  return Philox4x32({{quad, key.position, key.sample_index, kTokenNoiseStream}},
                    static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

// The noise of one token.
MIRRORSD_HOST_DEVICE inline float GumbelNoise(const NoiseKey& key, TokenId token) {
  const uint32_t id = static_cast<uint32_t>(token);
  return GumbelFromUniform(UniformFromBits(NoiseWords(key, id / 4).word[id % 4]));
}

}  // namespace mirrorsd
