// What batch normalisation makes of a number, and how moments are merged: shared with the convolutions that do it for their source
// (kernels/conv/reading.h) or take the moments of what they write, in the same arithmetic.
#pragma once
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

// Coefficients of a vector of channels; in memory (`coef`, as batch_norm gives them) the means of all c, then the scales, then the
// shifts.
template <class T>
struct Affine {
  Vec<T> mean, scale, shift;
  CNNMATH_INLINE Vec<T> of(Vec<T> x) const { return fma(x - mean, scale, shift); }
  CNNMATH_INLINE Vec<T> relu_of(Vec<T> x) const { return max(zero<T>(), of(x)); }
};

// Of channels [k, k + n), at most a vector.
template <class T>
static CNNMATH_INLINE Affine<T> affine_at(const T* coef, int64_t c, int64_t k, int64_t n) {
  return {load_n(coef + k, n), load_n(coef + c + k, n), load_n(coef + 2 * c + k, n)};
}

// Mean and sum of squared differences from it, of some numbers; merged in order and in double (Chan, Golub, LeVeque 1979).
struct Moments {
  double count = 0, mean = 0, m2 = 0;
  void merge(double other_count, double other_mean, double other_m2) {
    const double share = other_count / (count + other_count), delta = other_mean - mean;
    m2 += other_m2 + delta * delta * count * share;
    mean += delta * share;
    count += other_count;
  }
};

}  // namespace cnnmath::CNNMATH_ISA
