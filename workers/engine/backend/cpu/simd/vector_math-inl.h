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
using DU16 = hn::Rebind<uint16_t, DF>;
using DF16 = hn::Rebind<hwy::float16_t, DF>;
inline constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(DF()));

// How each stored type is read: Lanes() elements from an address, widened exactly.
struct ReadF32 {
  using T = float;
  static HWY_INLINE VF Load(const T* from) { return hn::LoadU(DF(), from); }
};
struct ReadBF16 {
  using T = uint16_t;
  static HWY_INLINE VF Load(const T* from) {
    const auto bits = hn::PromoteTo(DU(), hn::LoadU(DU16(), from));
    return hn::BitCast(DF(), hn::ShiftLeft<16>(bits));
  }
};
struct ReadF16 {
  using T = uint16_t;
  static HWY_INLINE VF Load(const T* from) {
    return hn::PromoteTo(DF(), hn::LoadU(DF16(), reinterpret_cast<const hwy::float16_t*>(from)));
  }
};

// The first `count` < kLanes elements, zeros behind them.
template <class Read>
HWY_INLINE VF LoadSome(const typename Read::T* from, int64_t count) {
  HWY_ALIGN typename Read::T padded[kLanes] = {};
  std::memcpy(padded, from, static_cast<size_t>(count) * sizeof(padded[0]));
  return Read::Load(padded);
}

HWY_INLINE void StoreSome(VF value, float* to, int64_t count) {
  HWY_ALIGN float padded[kLanes];
  hn::Store(value, DF(), padded);
  std::memcpy(to, padded, static_cast<size_t>(count) * sizeof(float));
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
