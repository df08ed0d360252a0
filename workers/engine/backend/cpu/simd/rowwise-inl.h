// Per-target include of kernels.cc: norms and activations, one row at a time, so that a row's bits cannot
// depend on others. References: NaiveBackend::RmsNorm, LayerNorm, SiluMul.

#if defined(MIRRORSD_SIMD_ROWWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MIRRORSD_SIMD_ROWWISE_INL_H_
#undef MIRRORSD_SIMD_ROWWISE_INL_H_
#else
#define MIRRORSD_SIMD_ROWWISE_INL_H_
#endif

#include <cmath>

#include "workers/engine/backend/cpu/simd/kernels.h"
#include "workers/engine/backend/cpu/simd/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mirrorsd::engine::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sum over i of term(vector i), in four interleaved accumulators; term gets an offset and a count.
template <class Term>
HWY_INLINE float SumOver(int64_t size, const Term& term) {
  const DF d;
  VF sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    for (int64_t j = 0; j < 4; ++j) {
      sums[j] = hn::Add(sums[j], term(i + j * kLanes, kLanes));
    }
  }
  for (int64_t j = 0; i < size; i += kLanes, ++j) {
    sums[j] = hn::Add(sums[j], term(i, HWY_MIN(kLanes, size - i)));
  }
  return Sum(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

template <class Body>
HWY_INLINE void ForVectors(int64_t size, const Body& body) {
  for (int64_t i = 0; i < size; i += kLanes) body(i, HWY_MIN(kLanes, size - i));
}

HWY_INLINE const float* WithResidual(const NormArgs& args) {
  if (args.residual == nullptr) return args.x;
  ForVectors(args.num_columns, [&](int64_t i, int64_t count) HWY_ATTR {
    StoreUpTo(hn::Add(LoadUpTo(args.residual + i, count), LoadUpTo(args.x + i, count)),
              args.residual + i, count);
  });
  return args.residual;
}

inline void RmsNorm(const NormArgs& args) {
  const DF d;
  const float* row = WithResidual(args);
  for (int64_t begin = 0; begin < args.num_columns; begin += args.size) {
    const float* from = row + begin;
    float* to = args.out + begin;
    const float squares = SumOver(args.size, [from](int64_t i, int64_t count) HWY_ATTR {
      const auto v = LoadUpTo(from + i, count);
      return hn::Mul(v, v);
    });
    const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(args.size) + args.eps);
    ForVectors(args.size, [&](int64_t i, int64_t count) HWY_ATTR {
      const auto scaled = hn::Mul(LoadUpTo(from + i, count), hn::Set(d, inverse));
      StoreUpTo(hn::Mul(scaled, LoadUpTo(args.weight + i, count)), to + i, count);
    });
  }
}

inline void LayerNorm(const NormArgs& args) {
  const DF d;
  const int64_t size = args.num_columns;
  const float* from = WithResidual(args);
  const float sum = SumOver(size, [from](int64_t i, int64_t count) HWY_ATTR {
    return LoadUpTo(from + i, count);
  });
  const auto mean = hn::Set(d, sum / static_cast<float>(size));
  const float squares = SumOver(size, [from, mean](int64_t i, int64_t count) HWY_ATTR {
    // Beyond the row x is 0 and not the mean: those lanes must not count.
    const auto v = LoadUpTo(from + i, count);
    const auto centered = hn::Sub(v, mean);
    return hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(count)),
                              hn::Mul(centered, centered));
  });
  const auto inverse =
      hn::Set(d, 1.0f / std::sqrt(squares / static_cast<float>(size) + args.eps));
  ForVectors(size, [&](int64_t i, int64_t count) HWY_ATTR {
    const auto scaled = hn::Mul(hn::Sub(LoadUpTo(from + i, count), mean), inverse);
    StoreUpTo(hn::Add(hn::Mul(scaled, LoadUpTo(args.weight + i, count)),
                      LoadUpTo(args.bias + i, count)),
              args.out + i, count);
  });
}

inline void SiluMul(const float* gate, const float* up, float* out, int64_t size) {
  const DF d;
  ForVectors(size, [&](int64_t i, int64_t count) HWY_ATTR {
    const auto g = LoadUpTo(gate + i, count);
    const auto denominator = hn::Add(hn::Set(d, 1.0f), ExpV(hn::Neg(g)));
    StoreUpTo(hn::Mul(hn::Div(g, denominator), LoadUpTo(up + i, count)), out + i, count);
  });
}

inline void ExpOf(const float* x, float* out, int64_t size) {
  ForVectors(size, [&](int64_t i, int64_t count) HWY_ATTR {
    StoreUpTo(ExpV(LoadUpTo(x + i, count)), out + i, count);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mirrorsd::engine::cpu
HWY_AFTER_NAMESPACE();

#endif  // MIRRORSD_SIMD_ROWWISE_INL_H_
