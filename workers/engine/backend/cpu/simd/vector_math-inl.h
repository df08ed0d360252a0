// Per-target include of kernels.cc: vectors, exact widening, exp, sums in one order. No include guard of
// the usual kind: Highway includes it once per target.

#if defined(MIRRORSD_SIMD_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MIRRORSD_SIMD_VECTOR_MATH_INL_H_
#undef MIRRORSD_SIMD_VECTOR_MATH_INL_H_
#else
#define MIRRORSD_SIMD_VECTOR_MATH_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "common/ieee_math.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mirrorsd::engine::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, the group of the KV layout.
using DF = hn::CappedTag<float, 16>;
using VF = hn::Vec<DF>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;
using DF16 = hn::Rebind<hwy::float16_t, DF>;
inline constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(DF()));

// How the elements of a PackedWeight's panel are read, widened exactly: the 2 kLanes outputs of one input.
struct ReadF32 {
  using T = float;
  static HWY_INLINE void Load(const T* from, VF* low, VF* high) {
    *low = hn::LoadU(DF(), from);
    *high = hn::LoadU(DF(), from + kLanes);
  }
};
struct ReadBF16 {
  using T = uint16_t;
  static HWY_INLINE void Load(const T* from, VF* low, VF* high) {
    const auto pairs = hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(from));
    *low = hn::BitCast(DF(), hn::ShiftLeft<16>(pairs));
    *high = hn::BitCast(DF(), hn::And(pairs, hn::Set(DU(), 0xffff0000u)));
  }
};
struct ReadF16 {
  using T = uint16_t;
  static HWY_INLINE void Load(const T* from, VF* low, VF* high) {
    const auto* halves = reinterpret_cast<const hwy::float16_t*>(from);
    *low = hn::PromoteTo(DF(), hn::LoadU(DF16(), halves));
    *high = hn::PromoteTo(DF(), hn::LoadU(DF16(), halves + kLanes));
  }
};

// The first `count` < kLanes elements, zeros behind them.
HWY_INLINE VF LoadSome(const float* from, int64_t count) {
  HWY_ALIGN float padded[kLanes] = {};
  std::memcpy(padded, from, static_cast<size_t>(count) * sizeof(padded[0]));
  return hn::Load(DF(), padded);
}

HWY_INLINE void StoreSome(VF value, float* to, int64_t count) {
  HWY_ALIGN float padded[kLanes];
  hn::Store(value, DF(), padded);
  std::memcpy(to, padded, static_cast<size_t>(count) * sizeof(float));
}

HWY_INLINE VF LoadUpTo(const float* from, int64_t count) {
  return count >= kLanes ? hn::LoadU(DF(), from) : LoadSome(from, count);
}

HWY_INLINE void StoreUpTo(VF value, float* to, int64_t count) {
  if (count >= kLanes) {
    hn::StoreU(value, DF(), to);
  } else {
    StoreSome(value, to, count);
  }
}

// ExpF (common/ieee_math.h), lane by lane, with the same bits.
HWY_INLINE VF ExpV(VF x) {
  using C = ExpFCoefficients;
  const DF d;
  const DI di;
  const auto rounder = hn::Set(d, ieee::kRounderF);
  // Out of range lanes are computed at the border and replaced in the end.
  const auto in = hn::Min(hn::Max(x, hn::Set(d, C::kMin)), hn::Set(d, C::kMax));
  const auto n = hn::Sub(hn::Add(hn::Mul(in, hn::Set(d, C::kLog2E)), rounder), rounder);
  auto r = hn::Sub(in, hn::Mul(n, hn::Set(d, C::kLn2High)));
  r = hn::Sub(r, hn::Mul(n, hn::Set(d, C::kLn2Low)));
  auto p = hn::Add(hn::Mul(hn::Set(d, C::kC0), r), hn::Set(d, C::kC1));
  p = hn::Add(hn::Mul(p, r), hn::Set(d, C::kC2));
  p = hn::Add(hn::Mul(p, r), hn::Set(d, C::kC3));
  p = hn::Add(hn::Mul(p, r), hn::Set(d, C::kC4));
  p = hn::Add(hn::Mul(p, r), hn::Set(d, C::kC5));
  p = hn::Add(hn::Add(hn::Mul(p, hn::Mul(r, r)), r), hn::Set(d, 1.0f));
  const auto exponent = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(exponent);
  const auto bias = hn::Set(di, 127);
  const auto low = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const auto high = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(exponent, half), bias)));
  auto y = hn::Mul(hn::Mul(p, low), high);
  y = hn::IfThenElse(hn::Gt(x, hn::Set(d, C::kMax)), hn::Inf(d), y);
  y = hn::IfThenElse(hn::Lt(x, hn::Set(d, C::kMin)), hn::Zero(d), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// Lanes in one fixed tree.
HWY_INLINE float Sum(VF v) { return hn::GetLane(hn::SumOfLanes(DF(), v)); }

}  // namespace HWY_NAMESPACE
}  // namespace mirrorsd::engine::cpu
HWY_AFTER_NAMESPACE();

#endif  // MIRRORSD_SIMD_VECTOR_MATH_INL_H_
