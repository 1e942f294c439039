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
    return hmax_of<T, bytes / 2>((l > h) | (l != l) ? l : h);
  } else {
    // in vectors to the end: branches on the numbers would be guessed wrong
    typedef typename Part<T, bytes>::Reg R;
    if constexpr (sizeof(T) == 4) {
      const R h = __builtin_shufflevector(a, a, 2, 3, 0, 1), m = (a > h) | (a != a) ? a : h;
      const R g = __builtin_shufflevector(m, m, 1, 0, 3, 2), top = (m > g) | (m != m) ? m : g;
      return top[0];
    } else {
      const R h = __builtin_shufflevector(a, a, 1, 0), top = (a > h) | (a != a) ? a : h;
      return top[0];
    }
  }
}
template <class T> static CNNMATH_INLINE T hmax(Vec<T> a) { return hmax_of<T, kVecBytes>(a.r); }
template <class T> static CNNMATH_INLINE T hmin(Vec<T> a) { return -hmax(Vec<T>{-a.r}); }

// The square of `lanes` vectors, rows against columns.
template <class T> static CNNMATH_INLINE void transpose(Vec<T> (&r)[Vec<T>::lanes]) {
  using R = typename Vec<T>::Reg;
  typedef typename Int<T>::Reg I;
  constexpr int L = Vec<T>::lanes;
  I low{}, high{};  // interleave the lower, the upper halves of two vectors
  for (int k = 0; k < L; ++k) {
    const auto from = static_cast<typename Int<T>::Lane>(k / 2 + (k % 2) * L);
    low[k] = from;
    high[k] = static_cast<typename Int<T>::Lane>(from + L / 2);
  }
  for (int step = 1; step < L; step *= 2) {
    R s[L];
    for (int k = 0; k < L / 2; ++k) {
      s[2 * k] = __builtin_shuffle(r[k].r, r[k + L / 2].r, low);
      s[2 * k + 1] = __builtin_shuffle(r[k].r, r[k + L / 2].r, high);
    }
    for (int k = 0; k < L; ++k) r[k].r = s[k];
  }
}

}  // namespace cnnmath::CNNMATH_ISA
