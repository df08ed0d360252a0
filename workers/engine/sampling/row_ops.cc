#include "workers/engine/sampling/row_ops.h"

#include <cstddef>
#include <cstring>
#include <limits>

#include "common/ieee_math.h"

// One body, compiled for wider registers too and chosen at run time. Everything a body calls is inlined
// into it, and no operation depends on the width, so the bits are those of the plain version.
#if defined(__x86_64__) && defined(__GNUC__)
#define MIRRORSD_WIDE_CLONES 1
#include <immintrin.h>
#endif
#define MIRRORSD_BODY __attribute__((always_inline)) inline

namespace mirrorsd::engine {
namespace {

// x = logit - peak is never positive, so as bits it grows with its distance from the peak: one unsigned
// comparison (vector loops have no use for branches) keeps what lies within 80 of it.
constexpr uint32_t kNegligibleBits = 0xc2a00000;  // of -80.0f

MIRRORSD_BODY float Weight(float logit, float peak) {
  const uint32_t x = ieee::Bits<uint32_t>(ieee::Sub(logit, peak));
  const uint32_t keep = x <= kNegligibleBits ? ~uint32_t{0} : uint32_t{0};
  const float weight = ieee::ExpBoundedF(ieee::Bits<float>(x & keep));
  return ieee::Bits<float>(ieee::Bits<uint32_t>(weight) & keep);
}

// Philox gives four neighbouring tokens at a time; 16 calls are done side by side. Their words stand in
// four rows of 16: words[w * kQuads + i] is token 4 * i + w of the block.
constexpr int kQuads = 16;
constexpr int kBlock = 4 * kQuads;

MIRRORSD_BODY void BlockWords(const NoiseKey& key, uint32_t first_quad, uint32_t* words) {
  for (int i = 0; i < kQuads; ++i) {
    const PhiloxBlock quad = NoiseWords(key, first_quad + i);
    for (int w = 0; w < 4; ++w) words[w * kQuads + i] = quad.word[w];
  }
}

MIRRORSD_BODY void NoiseOfBlock(const uint32_t* words, float* out) {
  float gumbel[kBlock];
  for (int i = 0; i < kBlock; ++i) gumbel[i] = GumbelFromUniform(UniformFromBits(words[i]));
  for (int i = 0; i < kQuads; ++i) {
    for (int w = 0; w < 4; ++w) out[4 * i + w] = gumbel[w * kQuads + i];
  }
}

// A macro, because a wider target's functions are inlined only into functions of that target itself.
#define MIRRORSD_FILL_BLOCKS(block_words)                                   \
  for (int64_t block = 0; block < num_blocks; ++block) {                    \
    alignas(64) uint32_t words[kBlock];                                     \
    block_words(key, static_cast<uint32_t>(block * kQuads), words);         \
    NoiseOfBlock(words, out + block * kBlock);                              \
  }

constexpr int kLanes = 16;

MIRRORSD_BODY double SumWeights(const float* row, int64_t size, float peak) {
  constexpr int kChunk = 16 * kLanes;
  float weights[kChunk];
  double sums[kLanes] = {};
  int64_t at = 0;
  for (; at + kChunk <= size; at += kChunk) {
    for (int i = 0; i < kChunk; ++i) weights[i] = Weight(row[at + i], peak);
    for (int i = 0; i < kChunk; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        sums[lane] += static_cast<double>(weights[i + lane]);
      }
    }
  }
  for (int64_t i = at; i < size; ++i) {
    sums[(i - at) % kLanes] += static_cast<double>(Weight(row[i], peak));
  }
  double total = 0.0;
  for (int lane = 0; lane < kLanes; ++lane) total += sums[lane];
  return total;
}

MIRRORSD_BODY void Divide(float* row, int64_t size, float divisor) {
  for (int64_t i = 0; i < size; ++i) row[i] = ieee::Div(row[i], divisor);
}

MIRRORSD_BODY void Add(float* row, const float* noise, int64_t size) {
  for (int64_t i = 0; i < size; ++i) row[i] = ieee::Add(row[i], noise[i]);
}

struct Kernels {
  void (*fill)(const NoiseKey& key, int64_t num_blocks, float* out);
  double (*sum_weights)(const float* row, int64_t size, float peak);
  void (*divide)(float* row, int64_t size, float divisor);
  void (*add)(float* row, const float* noise, int64_t size);
};

void FillPlain(const NoiseKey& key, int64_t num_blocks, float* out) {
  MIRRORSD_FILL_BLOCKS(BlockWords)
}
double SumPlain(const float* row, int64_t n, float peak) { return SumWeights(row, n, peak); }
void DividePlain(float* row, int64_t n, float divisor) { Divide(row, n, divisor); }
void AddPlain(float* row, const float* noise, int64_t n) { Add(row, noise, n); }

#ifdef MIRRORSD_WIDE_CLONES
#define MIRRORSD_AVX2 __attribute__((target("avx2")))
#define MIRRORSD_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

// Four calls of Philox in one register, a word in the low half of each 64-bit lane: the multiplication
// reads low halves only, so what the high halves hold does not matter. (Compilers do not find this.)
struct FourCalls {
  __m256i c0, c1, c2, c3;
};

MIRRORSD_AVX2 MIRRORSD_BODY FourCalls StartCalls(const NoiseKey& key, uint32_t first_quad) {
  return {_mm256_add_epi64(_mm256_set1_epi64x(first_quad), _mm256_setr_epi64x(0, 1, 2, 3)),
          _mm256_set1_epi64x(key.position), _mm256_set1_epi64x(key.sample_index),
          _mm256_set1_epi64x(kTokenNoiseStream)};
}

MIRRORSD_AVX2 MIRRORSD_BODY void PhiloxRound(__m256i key0, __m256i key1, FourCalls* calls) {
  const __m256i product0 = _mm256_mul_epu32(calls->c0, _mm256_set1_epi64x(0xD2511F53));
  const __m256i product1 = _mm256_mul_epu32(calls->c2, _mm256_set1_epi64x(0xCD9E8D57));
  calls->c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), calls->c1), key0);
  calls->c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), calls->c3), key1);
  calls->c1 = product1;
  calls->c3 = product0;
}

// The low halves of two registers, side by side.
MIRRORSD_AVX2 MIRRORSD_BODY void StoreLow(__m256i a, __m256i b, uint32_t* words) {
  const __m256 mixed =
      _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), _MM_SHUFFLE(2, 0, 2, 0));
  _mm256_store_si256(reinterpret_cast<__m256i*>(words),
                     _mm256_permute4x64_epi64(_mm256_castps_si256(mixed), _MM_SHUFFLE(3, 1, 2, 0)));
}

MIRRORSD_AVX2 MIRRORSD_BODY void BlockWordsAvx2(const NoiseKey& key, uint32_t first_quad,
                                                uint32_t* words) {
  for (int half = 0; half < kQuads; half += 8) {
    FourCalls a = StartCalls(key, first_quad + half);
    FourCalls b = StartCalls(key, first_quad + half + 4);
    uint32_t key0 = static_cast<uint32_t>(key.seed), key1 = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < 10; ++round) {
      PhiloxRound(_mm256_set1_epi64x(key0), _mm256_set1_epi64x(key1), &a);
      PhiloxRound(_mm256_set1_epi64x(key0), _mm256_set1_epi64x(key1), &b);
      key0 += 0x9E3779B9;
      key1 += 0xBB67AE85;
    }
    StoreLow(a.c0, b.c0, words + half);
    StoreLow(a.c1, b.c1, words + kQuads + half);
    StoreLow(a.c2, b.c2, words + 2 * kQuads + half);
    StoreLow(a.c3, b.c3, words + 3 * kQuads + half);
  }
}

MIRRORSD_AVX2 void FillAvx2(const NoiseKey& key, int64_t num_blocks, float* out) {
  MIRRORSD_FILL_BLOCKS(BlockWordsAvx2)
}
MIRRORSD_AVX2 double SumAvx2(const float* row, int64_t n, float peak) {
  return SumWeights(row, n, peak);
}
MIRRORSD_AVX2 void DivideAvx2(float* row, int64_t n, float divisor) { Divide(row, n, divisor); }
MIRRORSD_AVX2 void AddAvx2(float* row, const float* noise, int64_t n) { Add(row, noise, n); }
MIRRORSD_AVX512 void FillAvx512(const NoiseKey& key, int64_t num_blocks, float* out) {
  MIRRORSD_FILL_BLOCKS(BlockWordsAvx2)
}
MIRRORSD_AVX512 double SumAvx512(const float* row, int64_t n, float peak) {
  return SumWeights(row, n, peak);
}
MIRRORSD_AVX512 void DivideAvx512(float* row, int64_t n, float d) { Divide(row, n, d); }
MIRRORSD_AVX512 void AddAvx512(float* row, const float* noise, int64_t n) { Add(row, noise, n); }
#endif

const Kernels& Chosen() {
  static const Kernels kernels = [] {
#ifdef MIRRORSD_WIDE_CLONES
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return Kernels{FillAvx512, SumAvx512, DivideAvx512, AddAvx512};
    }
    if (__builtin_cpu_supports("avx2")) return Kernels{FillAvx2, SumAvx2, DivideAvx2, AddAvx2};
#endif
    return Kernels{FillPlain, SumPlain, DividePlain, AddPlain};
  }();
  return kernels;
}

// Four floats side by side: native to every processor of ours (wider types are not lowered well).
typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourMask __attribute__((vector_size(16)));
constexpr int kStride = 16;  // four vectors in flight

struct Largest {
  float value = -std::numeric_limits<float>::infinity();
  bool has_nan = false;
};

Largest FindLargest(absl::Span<const float> row) {
  Largest largest;
  const float lowest = largest.value;
  Four best[4];
  FourMask nan[4] = {};
  for (Four& b : best) b = Four{lowest, lowest, lowest, lowest};
  const size_t whole = row.size() / kStride * kStride;
  for (size_t i = 0; i < whole; i += kStride) {
    for (int v = 0; v < 4; ++v) {
      Four x;
      std::memcpy(&x, row.data() + i + 4 * v, sizeof(x));
      nan[v] |= x != x;
      best[v] = x > best[v] ? x : best[v];
    }
  }
  const auto take = [&largest](float x) {
    if (x > largest.value) largest.value = x;
  };
  for (int v = 0; v < 4; ++v) {
    for (int lane = 0; lane < 4; ++lane) {
      take(best[v][lane]);
      largest.has_nan = largest.has_nan || nan[v][lane] != 0;
    }
  }
  for (size_t i = whole; i < row.size(); ++i) {
    take(row[i]);
    largest.has_nan = largest.has_nan || row[i] != row[i];
  }
  return largest;
}

}  // namespace

RowPeak FindPeak(absl::Span<const float> row) {
  RowPeak peak;
  if (row.empty()) return peak;
  const Largest largest = FindLargest(row);
  peak.has_nan = largest.has_nan;
  if (peak.has_nan) return peak;
  peak.value = largest.value;
  size_t first = 0;
  while (row[first] != largest.value) ++first;
  peak.token = static_cast<TokenId>(first);
  return peak;
}

size_t FindAtLeast(absl::Span<const float> row, size_t begin, float floor) {
  const Four floors = {floor, floor, floor, floor};
  size_t i = begin;
  for (; i + kStride <= row.size(); i += kStride) {
    FourMask found = {};
    for (int v = 0; v < 4; ++v) {
      Four x;
      std::memcpy(&x, row.data() + i + 4 * v, sizeof(x));
      found |= x >= floors;
    }
    int64_t halves[2];
    std::memcpy(halves, &found, sizeof(halves));
    if ((halves[0] | halves[1]) != 0) break;
  }
  while (i < row.size() && !(row[i] >= floor)) ++i;
  return i;
}

void FillGumbelRow(const NoiseKey& key, absl::Span<float> noise) {
  const int64_t num_blocks = static_cast<int64_t>(noise.size()) / kBlock;
  Chosen().fill(key, num_blocks, noise.data());
  for (size_t x = num_blocks * kBlock; x < noise.size(); ++x) {
    noise[x] = GumbelNoise(key, static_cast<TokenId>(x));
  }
}

void DivideRow(absl::Span<float> row, float divisor) {
  Chosen().divide(row.data(), static_cast<int64_t>(row.size()), divisor);
}

void AddRow(absl::Span<float> row, absl::Span<const float> noise) {
  Chosen().add(row.data(), noise.data(), static_cast<int64_t>(row.size()));
}

float SoftmaxWeight(float logit, float peak) { return Weight(logit, peak); }

double SumSoftmaxWeights(absl::Span<const float> row, float peak) {
  return Chosen().sum_weights(row.data(), static_cast<int64_t>(row.size()), peak);
}

}  // namespace mirrorsd::engine
