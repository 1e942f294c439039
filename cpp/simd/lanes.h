// Across the lanes of a vector: sums, extremes, transposes. A part of vec.h, which includes it.
//
// A sum or an extreme is taken in a fixed tree of halves.
#pragma once
#include "simd/vec.h"
// clang-format off: as in vec.h.

namespace cnnmath::CNNMATH_ISA {

template <class T, int bytes> struct Part {
  typedef T Reg __attribute__((vector_size(bytes)));
};
template <class T, int bytes>
static CNNMATH_INLINE typename Part<T, bytes / 2>::Reg low_half(typename Part<T, bytes>::Reg a) {
  constexpr int n = bytes / 2 / static_cast<int>(sizeof(T));
  if constexpr (n == 8) return __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7);
  else if constexpr (n == 4) return __builtin_shufflevector(a, a, 0, 1, 2, 3);
  else return __builtin_shufflevector(a, a, 0, 1);
}
template <class T, int bytes>
static CNNMATH_INLINE typename Part<T, bytes / 2>::Reg high_half(typename Part<T, bytes>::Reg a) {
  constexpr int n = bytes / 2 / static_cast<int>(sizeof(T));
  if constexpr (n == 8) return __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
  else if constexpr (n == 4) return __builtin_shufflevector(a, a, 4, 5, 6, 7);
  else return __builtin_shufflevector(a, a, 2, 3);
}
template <class T, int bytes> static CNNMATH_INLINE T hsum_of(typename Part<T, bytes>::Reg a) {
  if constexpr (bytes > 16) return hsum_of<T, bytes / 2>(low_half<T, bytes>(a) + high_half<T, bytes>(a));
  else if constexpr (sizeof(T) == 4) return (a[0] + a[2]) + (a[1] + a[3]);
  else return a[0] + a[1];
}
template <class T> static CNNMATH_INLINE T hsum(Vec<T> a) { return hsum_of<T, kVecBytes>(a.r); }
// The largest and the smallest lane; NaN when a lane is NaN.
template <class T, int bytes> static CNNMATH_INLINE T hmax_of(typename Part<T, bytes>::Reg a) {
  if constexpr (bytes > 16) {
    const typename Part<T, bytes / 2>::Reg l = low_half<T, bytes>(a), h = high_half<T, bytes>(a);
    return hmax_of<T, bytes / 2>(((l > h) | (l != l)) ? l : h);
  } else {
    // in vectors to the end: branches on the numbers would be guessed wrong
    typedef typename Part<T, bytes>::Reg R;
    if constexpr (sizeof(T) == 4) {
      const R h = __builtin_shufflevector(a, a, 2, 3, 0, 1), m = ((a > h) | (a != a)) ? a : h;
      const R g = __builtin_shufflevector(m, m, 1, 0, 3, 2), top = ((m > g) | (m != m)) ? m : g;
      return top[0];
    } else {
      const R h = __builtin_shufflevector(a, a, 1, 0), top = ((a > h) | (a != a)) ? a : h;
      return top[0];
    }
  }
}
template <class T> static CNNMATH_INLINE T hmax(Vec<T> a) { return hmax_of<T, kVecBytes>(a.r); }
template <class T> static CNNMATH_INLINE T hmin(Vec<T> a) { return -hmax(Vec<T>{-a.r}); }

// The lower halves of two vectors, a lane of each in turn; the upper halves.
template <class T> static CNNMATH_INLINE Vec<T> interleave_low(Vec<T> a, Vec<T> b) {
  constexpr int L = Vec<T>::lanes;
  if constexpr (L == 16)
    return {__builtin_shufflevector(a.r, b.r, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)};
  else if constexpr (L == 8) return {__builtin_shufflevector(a.r, b.r, 0, 8, 1, 9, 2, 10, 3, 11)};
  else if constexpr (L == 4) return {__builtin_shufflevector(a.r, b.r, 0, 4, 1, 5)};
  else return {__builtin_shufflevector(a.r, b.r, 0, 2)};
}
template <class T> static CNNMATH_INLINE Vec<T> interleave_high(Vec<T> a, Vec<T> b) {
  constexpr int L = Vec<T>::lanes;
  if constexpr (L == 16)
    return {__builtin_shufflevector(a.r, b.r, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
  else if constexpr (L == 8) return {__builtin_shufflevector(a.r, b.r, 4, 12, 5, 13, 6, 14, 7, 15)};
  else if constexpr (L == 4) return {__builtin_shufflevector(a.r, b.r, 2, 6, 3, 7)};
  else return {__builtin_shufflevector(a.r, b.r, 1, 3)};
}

// Lanes 0, 2, 4, ... of a and then of b; lanes 1, 3, 5, ...
template <class T> static CNNMATH_INLINE Vec<T> evens(Vec<T> a, Vec<T> b) {
  constexpr int L = Vec<T>::lanes;
  if constexpr (L == 16)
    return {__builtin_shufflevector(a.r, b.r, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)};
  else if constexpr (L == 8) return {__builtin_shufflevector(a.r, b.r, 0, 2, 4, 6, 8, 10, 12, 14)};
  else if constexpr (L == 4) return {__builtin_shufflevector(a.r, b.r, 0, 2, 4, 6)};
  else return {__builtin_shufflevector(a.r, b.r, 0, 2)};
}
template <class T> static CNNMATH_INLINE Vec<T> odds(Vec<T> a, Vec<T> b) {
  constexpr int L = Vec<T>::lanes;
  if constexpr (L == 16)
    return {__builtin_shufflevector(a.r, b.r, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)};
  else if constexpr (L == 8) return {__builtin_shufflevector(a.r, b.r, 1, 3, 5, 7, 9, 11, 13, 15)};
  else if constexpr (L == 4) return {__builtin_shufflevector(a.r, b.r, 1, 3, 5, 7)};
  else return {__builtin_shufflevector(a.r, b.r, 1, 3)};
}

// Lane k is lane i[k] of a, 0 <= i[k] < lanes.
template <class T> static CNNMATH_INLINE Vec<T> permute(Vec<T> a, Int<T> i) {
#if defined(__AVX512F__)
  using R = typename Vec<T>::Reg;
  if constexpr (sizeof(T) == 4) return {(R)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)i.r, (__m512)a.r)};
  else return {(R)_mm512_maskz_permutexvar_pd(0xff, (__m512i)i.r, (__m512d)a.r)};
#elif defined(__AVX2__)
  using R = typename Vec<T>::Reg;
  if constexpr (sizeof(T) == 4) return {(R)_mm256_permutevar8x32_ps((__m256)a.r, (__m256i)i.r)};
  else {
    // as pairs of floats
    const Int<T> pairs = (i << 1) + (i << 33) + set1_int<T>(int64_t{1} << 32);
    return {(R)_mm256_permutevar8x32_ps((__m256)a.r, (__m256i)pairs.r)};
  }
#else
  Vec<T> r;
  for (int k = 0; k < Vec<T>::lanes; ++k) r.r[k] = a.r[i.r[k]];
  return r;
#endif
}

// The square of `lanes` vectors, rows against columns.
template <class T> static CNNMATH_INLINE void transpose(Vec<T> (&r)[Vec<T>::lanes]) {
  constexpr int L = Vec<T>::lanes;
  for (int step = 1; step < L; step *= 2) {
    Vec<T> s[L];
    for (int k = 0; k < L / 2; ++k) {
      s[2 * k] = interleave_low(r[k], r[k + L / 2]);
      s[2 * k + 1] = interleave_high(r[k], r[k + L / 2]);
    }
    for (int k = 0; k < L; ++k) r[k] = s[k];
  }
}

}  // namespace cnnmath::CNNMATH_ISA
