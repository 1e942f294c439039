// The last phase of a product whose k was cut in chunks.
#pragma once
#include "kernels/gemm/gemm.h"
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

constexpr int64_t kCombine = 16 << 10;  // elements of C in a task

// C in [begin, end) from the chunks' products, added in order, then what C held, then bias and act. Along rows of C, so that the bias is by
// vectors.
template <class T>
static CNNMATH_INLINE void combine(const MatmulShape& s, const T* partial, int64_t chunks, const T* bias,
                                   T* c, int64_t begin, int64_t end) {
  constexpr int L = Vec<T>::lanes;
  while (begin < end) {
    const int64_t j = begin % s.n, left = s.n - j < end - begin ? s.n - j : end - begin;
    const int64_t n = left < L ? left : L;
    Vec<T> sum = load_n(partial + begin, n);
    for (int64_t k = 1; k < chunks; ++k) sum = sum + load_n(partial + k * s.m * s.n + begin, n);
    if (s.accumulate) sum = sum + load_n(c + begin, n);
    if (bias) sum = sum + load_n(bias + j, n);
    if (s.relu) sum = max(zero<T>(), sum);
    store_n(c + begin, sum, n);
    begin += n;
  }
}

}  // namespace cnnmath::CNNMATH_ISA
