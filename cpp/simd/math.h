// exp, log and what follows from them on Vec<T>: our own polynomials, one structure for float and double and
// for every instruction set, nothing from libm.
//
//   exp(x)      2^n · e^r,  n = round(x / ln 2),  |r| <= ln(2)/2,  e^r = 1 + r + r² q(r)
//   expm1(x)    2^n · ((e^r - 1) + (1 - 2^-n)), exact to rounding near 0
//   log(x)      e·ln 2 + log(m),  √½ <= m < √2,  log(1+f) = 2 atanh(s),  s = f / (2+f)
//   log1p(x)    log(u) + (x - (u - 1)) / u,  u = 1 + x rounded
//   sigmoid(x)  1 / (1 + e^-x), from e^-|x| on both sides
//   tanh(x)     t / (t + 2),  t = expm1(2|x|), with the sign of x
//
// Largest error 2 units in the last place (exp, expm1, log, log1p) and 3 (sigmoid, tanh);
// tests/test_activations.py holds them to it. NaN gives NaN; exp(-inf) = 0, log(0) = -inf, log(x < 0) = NaN,
// tanh(±inf) = ±1. Where the caller flushes subnormal numbers, they count as zero here too.
//
// The polynomials interpolate q and atanh at Chebyshev points, which is within a bit of the best there is.
#pragma once
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

template <class T>
struct MathConstants;
template <>
struct MathConstants<float> {
  static constexpr float exp_max = 89.f, exp_min = -104.f;                 // beyond: inf, 0
  static constexpr float expm1_min = -17.5f;                               // below: -1
  static constexpr float tanh_max = 10.f;                                  // above: 1
  static constexpr float ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;  // hi is short: n·hi is exact
  static constexpr float exp_q[] = {0.5f, 0.1666657699f, 0.04166655462f, 0.008363179053f, 0.001392618359f};
  static constexpr float log_r[] = {0.6666666655f, 0.4000012188f, 0.285508166f, 0.2333058194f};
  static constexpr float smallest_normal = 1.17549435e-38f;
  static constexpr float subnormal_scale = 16777216.f, subnormal_exponent = 24.f;
};
template <>
struct MathConstants<double> {
  static constexpr double exp_max = 710., exp_min = -746.;
  static constexpr double expm1_min = -38.;
  static constexpr double tanh_max = 20.;
  static constexpr double ln2_hi = 6.93147180369123816490e-01, ln2_lo = 1.90821492927058770002e-10;
  static constexpr double exp_q[] = {
      0.500000000000000102,   0.166666666666666675,    0.0416666666666241279,    0.00833333333333006183,
      0.00138888889172137169, 0.000198412698630536169, 0.0000248015212959543751, 2.75572684599970648e-6,
      2.76200884454097482e-7, 2.51003854955103191e-8};
  static constexpr double log_r[] = {0.666666666666666969, 0.399999999998994432, 0.285714286260032687,
                                     0.22222211130259877,  0.18182889455674946,  0.153317106182107716,
                                     0.14616585424888622};
  static constexpr double smallest_normal = 2.2250738585072014e-308;
  static constexpr double subnormal_scale = 18014398509481984., subnormal_exponent = 54.;
};

// c[0] + c[1] x + ... by Horner's rule
template <class T, int n>
static CNNMATH_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[n]) {
  Vec<T> y = set1<T>(c[n - 1]);
#pragma GCC unroll 16
  for (int k = n - 2; k >= 0; --k) y = fma(y, x, set1<T>(c[k]));
  return y;
}

// x = n ln 2 + r, and p = e^r - 1
template <class T>
struct ReducedExp {
  Vec<T> n, p;
};
template <class T>
static CNNMATH_INLINE ReducedExp<T> reduced_exp(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> n = round(x * set1<T>(static_cast<T>(1.44269504088896340736)));
  Vec<T> r = fnma(n, set1<T>(C::ln2_hi), x);
  r = fnma(n, set1<T>(C::ln2_lo), r);
  return {n, fma(r * r, polynomial<T>(r, C::exp_q), r)};
}

template <class T>
static CNNMATH_INLINE Vec<T> exp(Vec<T> x) {
  using C = MathConstants<T>;
  // max and min hand on their second operand where it is NaN
  x = min(set1<T>(C::exp_max), max(set1<T>(C::exp_min), x));
  const ReducedExp<T> e = reduced_exp(x);
  return ldexp(e.p + set1<T>(1), e.n);
}

// e^x for x <= 0, as softmax needs it: one step less, and below the normal numbers 0.
template <class T>
static CNNMATH_INLINE Vec<T> exp_nonpositive(Vec<T> x) {
  const Vec<T> low = set1<T>(sizeof(T) == 4 ? static_cast<T>(-87.3) : static_cast<T>(-708.3));
  const ReducedExp<T> e = reduced_exp(max(low, x));
  const Vec<T> y = (e.p + set1<T>(1)) * exp2_int(e.n);
  return select(lt(x, low), zero<T>(), y);
}

template <class T>
static CNNMATH_INLINE Vec<T> expm1(Vec<T> x) {
  using C = MathConstants<T>;
  const Vec<T> one = set1<T>(1);
  const Vec<T> clamped = min(set1<T>(C::exp_max), max(set1<T>(C::expm1_min), x));
  const ReducedExp<T> e = reduced_exp(clamped);
  const Vec<T> down = exp2_int(max(set1<T>(-60), -e.n));
  const Vec<T> y = ldexp(e.p + (one - down), e.n);
  return select(eq(x, zero<T>()), x, y);  // -0 stays -0
}

// log(m · 2^e) + correction / value, for log and log1p
template <class T>
static CNNMATH_INLINE Vec<T> log_normal(Vec<T> x, Vec<T> exponent_offset, Vec<T> correction) {
  using C = MathConstants<T>;
  const Vec<T> one = set1<T>(1), half = set1<T>(static_cast<T>(0.5));
  Vec<T> m = mantissa(x), e = exponent(x) - exponent_offset;
  const Mask<T> upper = gt(m, set1<T>(static_cast<T>(1.41421356237309504880)));
  m = select(upper, m * half, m);
  e = select(upper, e + one, e);
  const Vec<T> f = m - one;
  const Vec<T> s = f / (set1<T>(2) + f);
  const Vec<T> z = s * s;
  const Vec<T> r = z * polynomial<T>(z, C::log_r);
  const Vec<T> h = half * f * f;
  // f - (h - s (h + r)) is log(1+f); the small terms are added to one another first
  const Vec<T> small = fma(s, h + r, fma(e, set1<T>(C::ln2_lo), correction));
  return fma(e, set1<T>(C::ln2_hi), f - (h - small));
}
// what log gives where x is no positive finite number
template <class T>
static CNNMATH_INLINE Vec<T> log_edges(Vec<T> x, Vec<T> y) {
  const Vec<T> inf = set1<T>(static_cast<T>(__builtin_inf()));
  y = select(lt(x, inf), y, x);  // inf and NaN
  y = select(eq(x, zero<T>()), -inf, y);
  return select(lt(x, zero<T>()), set1<T>(static_cast<T>(__builtin_nan(""))), y);
}

template <class T>
static CNNMATH_INLINE Vec<T> log(Vec<T> x) {
  using C = MathConstants<T>;
  const Mask<T> subnormal = lt(x, set1<T>(C::smallest_normal));
  const Vec<T> scaled = select(subnormal, x * set1<T>(C::subnormal_scale), x);
  const Vec<T> offset = select(subnormal, set1<T>(C::subnormal_exponent), zero<T>());
  return log_edges(x, log_normal(scaled, offset, zero<T>()));
}

template <class T>
static CNNMATH_INLINE Vec<T> log1p(Vec<T> x) {
  const Vec<T> one = set1<T>(1);
  const Vec<T> u = one + x;
  const Vec<T> back = u - one;
  const Vec<T> lost = (x - back) + (one - (u - back));  // what rounding u dropped, exactly
  const Vec<T> y = log_edges(u, log_normal(u, zero<T>(), lost / u));
  return select(eq(x, zero<T>()), x, y);
}

template <class T>
static CNNMATH_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> one = set1<T>(1);
  const Vec<T> e = exp(-abs(x));
  return select(lt(x, zero<T>()), e, one) / (one + e);
}

template <class T>
static CNNMATH_INLINE Vec<T> tanh(Vec<T> x) {
  const Vec<T> a = min(set1<T>(MathConstants<T>::tanh_max), abs(x));
  const Vec<T> t = expm1(a + a);
  return copysign(t / (t + set1<T>(2)), x);
}

}  // namespace cnnmath::CNNMATH_ISA
