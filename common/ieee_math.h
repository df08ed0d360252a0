#pragma once
// exp, log, pow, sin and cos from IEEE additions, multiplications and divisions in a fixed order: the same
// bits on every processor and compiler, CUDA's included. Not libm, which chooses its code by CPU and version.
// Engine and sampler use these wherever a value can decide a token. Pure functions, callable from any
// thread, in the default rounding mode only. Translation units must be compiled with -ffp-contract=off (all
// of ours are); device code is safe with any -fmad because every operation is spelled as a rounding
// intrinsic there.
// Source of the polynomials: Cephes (ExpF), FreeBSD msun / fdlibm (the others).

#include <cstdint>

#ifdef __CUDACC__
#define MIRRORSD_HOST_DEVICE __host__ __device__
#else
#define MIRRORSD_HOST_DEVICE
#endif

namespace mirrorsd {
namespace ieee {

#ifdef __CUDA_ARCH__
MIRRORSD_HOST_DEVICE inline float Add(float a, float b) { return __fadd_rn(a, b); }
MIRRORSD_HOST_DEVICE inline float Sub(float a, float b) { return __fsub_rn(a, b); }
MIRRORSD_HOST_DEVICE inline float Mul(float a, float b) { return __fmul_rn(a, b); }
MIRRORSD_HOST_DEVICE inline float Div(float a, float b) { return __fdiv_rn(a, b); }
MIRRORSD_HOST_DEVICE inline double Add(double a, double b) { return __dadd_rn(a, b); }
MIRRORSD_HOST_DEVICE inline double Sub(double a, double b) { return __dsub_rn(a, b); }
MIRRORSD_HOST_DEVICE inline double Mul(double a, double b) { return __dmul_rn(a, b); }
MIRRORSD_HOST_DEVICE inline double Div(double a, double b) { return __ddiv_rn(a, b); }
#else
MIRRORSD_HOST_DEVICE inline float Add(float a, float b) { return a + b; }
MIRRORSD_HOST_DEVICE inline float Sub(float a, float b) { return a - b; }
MIRRORSD_HOST_DEVICE inline float Mul(float a, float b) { return a * b; }
MIRRORSD_HOST_DEVICE inline float Div(float a, float b) { return a / b; }
MIRRORSD_HOST_DEVICE inline double Add(double a, double b) { return a + b; }
MIRRORSD_HOST_DEVICE inline double Sub(double a, double b) { return a - b; }
MIRRORSD_HOST_DEVICE inline double Mul(double a, double b) { return a * b; }
MIRRORSD_HOST_DEVICE inline double Div(double a, double b) { return a / b; }
#endif

// a * b + c, two roundings.
template <typename T>
MIRRORSD_HOST_DEVICE inline T MulThenAdd(T a, T b, T c) {
  return Add(Mul(a, b), c);
}

template <typename To, typename From>
MIRRORSD_HOST_DEVICE inline To Bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

// 2^n as a normal number.
MIRRORSD_HOST_DEVICE inline float PowerOfTwoF(int32_t n) {
  return Bits<float>(static_cast<uint32_t>(n + 127) << 23);
}
MIRRORSD_HOST_DEVICE inline double PowerOfTwo(int64_t n) {
  return Bits<double>(static_cast<uint64_t>(n + 1023) << 52);
}

// Adding and subtracting these rounds to the nearest integer (|x| < 2^22, 2^51).
inline constexpr float kRounderF = 12582912.0f;
inline constexpr double kRounder = 6755399441055744.0;

}  // namespace ieee

// The coefficients of ExpF, shared with its vector twin (workers/engine/backend/cpu/simd), which does the
// same operations in the same order and so yields the same bits.
struct ExpFCoefficients {
  static constexpr float kMax = 88.72283f;   // above: +infinity
  static constexpr float kMin = -103.9721f;  // below: 0
  static constexpr float kLog2E = 1.44269504088896341f;
  static constexpr float kLn2High = 0.693359375f;
  static constexpr float kLn2Low = -2.12194440e-4f;
  static constexpr float kC0 = 1.9875691500e-4f;
  static constexpr float kC1 = 1.3981999507e-3f;
  static constexpr float kC2 = 8.3334519073e-3f;
  static constexpr float kC3 = 4.1665795894e-2f;
  static constexpr float kC4 = 1.6666665459e-1f;
  static constexpr float kC5 = 5.0000001201e-1f;
};

namespace ieee {

// e^x for kMin <= x <= kMax: the branch-free heart of ExpF.
MIRRORSD_HOST_DEVICE inline float ExpBoundedF(float x) {
  using C = ExpFCoefficients;
  const float n = Sub(Add(Mul(x, C::kLog2E), kRounderF), kRounderF);
  float r = Sub(x, Mul(n, C::kLn2High));
  r = Sub(r, Mul(n, C::kLn2Low));
  float p = MulThenAdd(C::kC0, r, C::kC1);
  p = MulThenAdd(p, r, C::kC2);
  p = MulThenAdd(p, r, C::kC3);
  p = MulThenAdd(p, r, C::kC4);
  p = MulThenAdd(p, r, C::kC5);
  p = Add(MulThenAdd(p, Mul(r, r), r), 1.0f);
  // Two factors, so that neither leaves the normal range.
  const int32_t exponent = static_cast<int32_t>(n);
  const int32_t half = exponent >> 1;
  return Mul(Mul(p, PowerOfTwoF(half)), PowerOfTwoF(exponent - half));
}

}  // namespace ieee

// e^x within 2 units in the last place, also where the result is subnormal. NaN stays NaN.
MIRRORSD_HOST_DEVICE inline float ExpF(float x) {
  if (x != x) return x;
  if (x > ExpFCoefficients::kMax) return ieee::Bits<float>(uint32_t{0x7f800000});
  if (x < ExpFCoefficients::kMin) return 0.0f;
  return ieee::ExpBoundedF(x);
}

namespace ieee {

// ln(m * 2^k), `ix` being the bits of m, a normal positive number: the branch-free heart of LogF.
MIRRORSD_HOST_DEVICE inline float LogNormalF(uint32_t ix, int32_t k) {
  ix += 0x3f800000 - 0x3f3504f3;
  k += static_cast<int32_t>(ix >> 23) - 127;
  ix = (ix & 0x007fffff) + 0x3f3504f3;
  const float f = Sub(Bits<float>(ix), 1.0f);  // in [sqrt(1/2) - 1, sqrt(2) - 1)
  const float s = Div(f, Add(2.0f, f));
  const float z = Mul(s, s);
  const float w = Mul(z, z);
  const float t1 = Mul(w, MulThenAdd(w, 0xf89e26.0p-26f, 0xccce13.0p-25f));
  const float t2 = Mul(z, MulThenAdd(w, 0x91e9ee.0p-25f, 0xaaaaaa.0p-24f));
  const float half_square = Mul(Mul(0.5f, f), f);
  const float dk = static_cast<float>(k);
  float y = Mul(s, Add(half_square, Add(t2, t1)));
  y = Add(y, Mul(dk, 9.0580006145e-06f));
  y = Add(Sub(y, half_square), f);
  return Add(y, Mul(dk, 6.9313812256e-01f));
}

}  // namespace ieee

// ln x within 1 unit in the last place. ln 0 = -infinity; of a negative number NaN.
MIRRORSD_HOST_DEVICE inline float LogF(float x) {
  using namespace ieee;  // NOLINT
  const uint32_t ix = Bits<uint32_t>(x);
  if ((ix << 1) == 0) return Bits<float>(uint32_t{0xff800000});
  if (x != x || (ix >> 31) != 0) return Bits<float>(uint32_t{0x7fc00000});
  if (ix >= 0x7f800000) return x;
  if (ix < 0x00800000) {  // subnormal: scale into the normal range
    return LogNormalF(Bits<uint32_t>(Mul(x, 33554432.0f)), -25);
  }
  return LogNormalF(ix, 0);
}

// e^x in double precision, within 1 unit in the last place; results below the normal range are 0.
MIRRORSD_HOST_DEVICE inline double Exp(double x) {
  using namespace ieee;  // NOLINT
  if (x != x) return x;
  if (x > 709.782712893383973096) return Bits<double>(uint64_t{0x7ff0000000000000});
  if (x < -708.396418532264) return 0.0;
  const double n = Sub(Add(Mul(x, 1.44269504088896338700), kRounder), kRounder);
  const double high = Sub(x, Mul(n, 6.93147180369123816490e-01));
  const double low = Mul(n, 1.90821492927058770002e-10);
  const double r = Sub(high, low);
  const double z = Mul(r, r);
  double p = MulThenAdd(z, 4.13813679705723846039e-08, -1.65339022054652515390e-06);
  p = MulThenAdd(z, p, 6.61375632143793436117e-05);
  p = MulThenAdd(z, p, -2.77777777770155933842e-03);
  p = MulThenAdd(z, p, 1.66666666666666019037e-01);
  const double c = Sub(r, Mul(z, p));
  const double y = Add(1.0, Add(Sub(Div(Mul(r, c), Sub(2.0, c)), low), high));
  const int64_t exponent = static_cast<int64_t>(n);
  const int64_t half = exponent >> 1;
  return Mul(Mul(y, PowerOfTwo(half)), PowerOfTwo(exponent - half));
}

// ln x in double precision, within 1 unit in the last place, for every x including subnormals.
MIRRORSD_HOST_DEVICE inline double Log(double x) {
  using namespace ieee;  // NOLINT
  uint64_t ix = Bits<uint64_t>(x);
  if ((ix << 1) == 0) return Bits<double>(uint64_t{0xfff0000000000000});
  if (x != x || (ix >> 63) != 0) return Bits<double>(uint64_t{0x7ff8000000000000});
  if (ix >= 0x7ff0000000000000) return x;
  int64_t k = 0;
  if (ix < 0x0010000000000000) {
    ix = Bits<uint64_t>(Mul(x, 18014398509481984.0));
    k = -54;
  }
  ix += uint64_t{0x3ff00000 - 0x3fe6a09e} << 32;
  k += static_cast<int64_t>(ix >> 52) - 1023;
  ix = (ix & 0x000fffffffffffff) + (uint64_t{0x3fe6a09e} << 32);
  const double f = Sub(Bits<double>(ix), 1.0);
  const double s = Div(f, Add(2.0, f));
  const double z = Mul(s, s);
  const double w = Mul(z, z);
  double t1 = MulThenAdd(w, 1.531383769920937332e-01, 2.222219843214978396e-01);
  t1 = Mul(w, MulThenAdd(w, t1, 3.999999999940941908e-01));
  double t2 = MulThenAdd(w, 1.479819860511658591e-01, 1.818357216161805012e-01);
  t2 = MulThenAdd(w, t2, 2.857142874366239149e-01);
  t2 = Mul(z, MulThenAdd(w, t2, 6.666666666666735130e-01));
  const double half_square = Mul(Mul(0.5, f), f);
  const double dk = static_cast<double>(k);
  double y = Mul(s, Add(half_square, Add(t2, t1)));
  y = Add(y, Mul(dk, 1.90821492927058770002e-10));
  y = Add(Sub(y, half_square), f);
  return Add(y, Mul(dk, 6.93147180369123816490e-01));
}

// x^y for x > 0, correct as a float: its relative error is about |y ln x| * 2^-52.
MIRRORSD_HOST_DEVICE inline double Pow(double x, double y) { return Exp(ieee::Mul(y, Log(x))); }

struct SinCos {
  float sin;
  float cos;
};

// sin x and cos x within 1 unit in the last place for |x| <= 2^22, far beyond any position's angle.
// Units: radians. Beyond, the result is still finite and the same everywhere; NaN and infinities give NaN.
MIRRORSD_HOST_DEVICE inline SinCos SinCosF(float x) {
  using namespace ieee;  // NOLINT
  const double xd = static_cast<double>(x);
  if (!(xd >= -1073741824.0 && xd <= 1073741824.0)) {
    const float zero_or_nan = Sub(x, x);
    return {zero_or_nan, Add(zero_or_nan, 1.0f)};
  }
  const double n = Sub(Add(Mul(xd, 6.36619772367581382433e-01), kRounder), kRounder);
  double r = Sub(xd, Mul(n, 1.57079631090164184570e+00));  // 25 bits of pi / 2: exact
  r = Sub(r, Mul(n, 1.58932547735281966916e-08));
  const double z = Mul(r, r);
  const double w = Mul(z, z);
  const double zr = Mul(z, r);
  double s = Add(r, Mul(zr, MulThenAdd(z, 0.0083333293858894631756, -0.166666666416265235595)));
  s = Add(s, Mul(Mul(zr, w),
                 MulThenAdd(z, 0.0000027183114939898219064, -0.000198393348360966317347)));
  double c = MulThenAdd(z, -0.499999997251031003120, 1.0);
  c = Add(c, Mul(w, 0.0416666233237390631894));
  c = Add(c, Mul(Mul(w, z),
                 MulThenAdd(z, 0.0000243904487962774090654, -0.00138867637746099294692)));
  const float sin_r = static_cast<float>(s);
  const float cos_r = static_cast<float>(c);
  switch (static_cast<int64_t>(n) & 3) {
    case 0: return {sin_r, cos_r};
    case 1: return {cos_r, -sin_r};
    case 2: return {-sin_r, -cos_r};
    default: return {-cos_r, sin_r};
  }
}

}  // namespace mirrorsd
