#include "workers/engine/sampling/row_ops.h"

#include <cstddef>
#include <cstring>
#include <limits>

#include "common/ieee_math.h"

// One body, compiled for wider registers too and chosen at run time. Everything a body calls is inlined
// into it, and no operation depends on the width, so the bits are those of the plain version.
#if defined(__x86_64__) && defined(__GNUC__)
#define MIRRORSD_WIDE_CLONES 1
#endif
#define MIRRORSD_BODY __attribute__((always_inline)) inline

namespace mirrorsd::engine {
namespace {

constexpr float kNegligible = -80.0f;

MIRRORSD_BODY float Weight(float logit, float peak) {
  const float x = ieee::Sub(logit, peak);
  const float bounded = x < kNegligible ? kNegligible : x;
  const float weight = ieee::ExpBoundedF(bounded);
  return x < kNegligible ? 0.0f : weight;
}

// Philox gives four neighbouring tokens at a time; 16 calls are done side by side.
constexpr int kQuads = 16;
constexpr int kBlock = 4 * kQuads;

MIRRORSD_BODY void FillBlocks(const NoiseKey& key, int64_t num_blocks, float* out) {
  for (int64_t block = 0; block < num_blocks; ++block) {
    uint32_t words[4 * kQuads];
    float gumbel[4 * kQuads];
    const uint32_t first_quad = static_cast<uint32_t>(block * kQuads);
    for (int i = 0; i < kQuads; ++i) {
      const PhiloxBlock quad = NoiseWords(key, first_quad + i);
      words[i] = quad.word[0];
      words[kQuads + i] = quad.word[1];
      words[2 * kQuads + i] = quad.word[2];
      words[3 * kQuads + i] = quad.word[3];
    }
    for (int i = 0; i < kBlock; ++i) gumbel[i] = GumbelFromUniform(UniformFromBits(words[i]));
    for (int i = 0; i < kQuads; ++i) {
      for (int w = 0; w < 4; ++w) out[block * kBlock + 4 * i + w] = gumbel[w * kQuads + i];
    }
  }
}

constexpr int kLanes = 16;

MIRRORSD_BODY double SumWeights(const float* row, int64_t size, float peak) {
  double sums[kLanes] = {};
  const int64_t whole = size / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(Weight(row[i + lane], peak));
    }
  }
  for (int64_t i = whole; i < size; ++i) {
    sums[i - whole] += static_cast<double>(Weight(row[i], peak));
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

void FillPlain(const NoiseKey& key, int64_t n, float* out) { FillBlocks(key, n, out); }
double SumPlain(const float* row, int64_t n, float peak) { return SumWeights(row, n, peak); }
void DividePlain(float* row, int64_t n, float divisor) { Divide(row, n, divisor); }
void AddPlain(float* row, const float* noise, int64_t n) { Add(row, noise, n); }

#ifdef MIRRORSD_WIDE_CLONES
#define MIRRORSD_AVX2 __attribute__((target("avx2")))
#define MIRRORSD_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
MIRRORSD_AVX2 void FillAvx2(const NoiseKey& key, int64_t n, float* out) {
  FillBlocks(key, n, out);
}
MIRRORSD_AVX2 double SumAvx2(const float* row, int64_t n, float peak) {
  return SumWeights(row, n, peak);
}
MIRRORSD_AVX2 void DivideAvx2(float* row, int64_t n, float divisor) { Divide(row, n, divisor); }
MIRRORSD_AVX2 void AddAvx2(float* row, const float* noise, int64_t n) { Add(row, noise, n); }
MIRRORSD_AVX512 void FillAvx512(const NoiseKey& key, int64_t n, float* out) {
  FillBlocks(key, n, out);
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

// Eight floats side by side; every compiler of ours lowers it to what the target has.
typedef float Eight __attribute__((vector_size(32)));
typedef int32_t EightMask __attribute__((vector_size(32)));

}  // namespace

RowPeak FindPeak(absl::Span<const float> row) {
  RowPeak peak;
  if (row.empty()) return peak;
  const int64_t size = static_cast<int64_t>(row.size());
  const int64_t whole = size / 16 * 16;
  const float lowest = -std::numeric_limits<float>::infinity();
  Eight best0 = {lowest, lowest, lowest, lowest, lowest, lowest, lowest, lowest};
  Eight best1 = best0;
  EightMask nan = {};
  for (int64_t i = 0; i < whole; i += 16) {
    Eight a, b;
    std::memcpy(&a, row.data() + i, sizeof(a));
    std::memcpy(&b, row.data() + i + 8, sizeof(b));
    nan |= (a != a) | (b != b);
    best0 = a > best0 ? a : best0;
    best1 = b > best1 ? b : best1;
  }
  float best = lowest;
  for (int lane = 0; lane < 8; ++lane) {
    if (best0[lane] > best) best = best0[lane];
    if (best1[lane] > best) best = best1[lane];
    peak.has_nan = peak.has_nan || nan[lane] != 0;
  }
  for (int64_t i = whole; i < size; ++i) {
    if (row[i] > best) best = row[i];
    peak.has_nan = peak.has_nan || row[i] != row[i];
  }
  if (peak.has_nan) return peak;
  peak.value = best;
  for (int64_t i = 0; i < size; ++i) {
    if (row[i] == best) {
      peak.token = static_cast<TokenId>(i);
      break;
    }
  }
  return peak;
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
