// Pixels of R numbers, one behind the other, in R vectors; and the same numbers as R planes.
#pragma once
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

// Up to so many numbers of a pixel this is faster than the transpose of a square, whose pixels are stored one by one.
template <class T>
constexpr int kMostInterleaved = Vec<T>::lanes / (Vec<T>::lanes >= 16 ? 2 : 4);

// Lane l of vector i becomes number from(i, l) of all that the vectors hold.
template <class T, int R, class From>
static CNNMATH_INLINE void rearrange(Vec<T> (&v)[R], From from) {
  constexpr int L = Vec<T>::lanes;
  using Lane = typename Int<T>::Lane;
  if constexpr (R == 1) return;
  Vec<T> out[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
    Int<T> lane, vector;
#pragma GCC unroll 16
    for (int l = 0; l < L; ++l) {
      lane.r[l] = static_cast<Lane>(from(i, l) % L);
      vector.r[l] = static_cast<Lane>(from(i, l) / L);
    }
    out[i] = permute(v[0], lane);
#pragma GCC unroll 8
    for (int m = 1; m < R; ++m)
      out[i] = select(eq(vector, set1_int<T>(static_cast<Lane>(m))), permute(v[m], lane), out[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) v[i] = out[i];
}

template <class T, int R>
static CNNMATH_INLINE void pixels_to_planes(Vec<T> (&v)[R]) {
  rearrange(v, [](int plane, int pixel) { return pixel * R + plane; });
}
template <class T, int R>
static CNNMATH_INLINE void planes_to_pixels(Vec<T> (&v)[R]) {
  rearrange(v, [](int i, int l) {
    const int at = i * Vec<T>::lanes + l;
    return at % R * Vec<T>::lanes + at / R;
  });
}

}  // namespace cnnmath::CNNMATH_ISA
