// Sums in blocks: an accumulator takes kBlockRows numbers before it is put away, so that rounding errors stay
// small without a second type.
#pragma once
#include "simd/loops.h"

namespace cnnmath::CNNMATH_ISA {

constexpr int64_t kBlockRows = 64;

// Second-level accumulator: 64 numbers are added, then put away.
template <class A>
struct Combined {
  A total, group;
  int count = 0;
  CNNMATH_INLINE void add(A v) {
    group = group + v;
    if (++count == 64) put_away();
  }
  CNNMATH_INLINE A sum() const { return total + group; }
  CNNMATH_INLINE void put_away() {
    total = total + group;
    group = A{};
    count = 0;
  }
};

// sum of n numbers from x with a stride: blocks in four accumulators
template <class T>
[[maybe_unused]] static T sum_run(const T* x, int64_t stride, int64_t n) {
  constexpr int64_t L = Vec<T>::lanes, block = 4 * L * kBlockRows;
  Combined<Vec<T>> total{};
  for (int64_t i = 0; i < n; i += block) {
    const int64_t end = min_of(n, i + block);
    Vec<T> a[4] = {};
    int64_t j = i;
    if (stride == 1) {
      for (; j + 4 * L <= end; j += 4 * L)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) a[k] = a[k] + load(x + j + k * L);
      for (; j < end; j += L) a[(j - i) / L % 4] = a[(j - i) / L % 4] + load_n(x + j, min_of(L, end - j));
    } else {
      for (; j < end; j += L)
        a[(j - i) / L % 4] = a[(j - i) / L % 4] + gather_n(x + j * stride, stride, min_of(L, end - j));
    }
    total.add((a[0] + a[1]) + (a[2] + a[3]));
  }
  total.put_away();
  return hsum(total.total);
}

}  // namespace cnnmath::CNNMATH_ISA
