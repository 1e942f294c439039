// What batch_norm makes of a number: shared with the kernels that do it while they read (conv2d_norm and its kin), which must give
// the same bits.
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

}  // namespace cnnmath::CNNMATH_ISA
