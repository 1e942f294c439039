// Copies that bring operands into the order in which the tile reads them.
#pragma once
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

template <class T>
static CNNMATH_INLINE void copy_run(T* to, const T* from, int64_t n) {
  constexpr int L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(to + i, load(from + i));
  if (i < n) store_n(to + i, load_n(from + i, n - i), n - i);
}

template <class T>
static CNNMATH_INLINE void zero_run(T* to, int64_t n) {
  constexpr int L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(to + i, zero<T>());
  if (i < n) store_n(to + i, zero<T>(), n - i);
}

// to[k * width + j] = from[k * row_step + j * column_step] for k < rows, j < columns; zeros for columns <= j
// < width. One of the steps is 1; width is a whole number of vectors.
template <class T>
void pack_panel(T* to, int64_t width, const T* from, int64_t row_step, int64_t column_step, int64_t rows,
                int64_t columns);

// One vector of columns, each contiguous along k, by squares in registers:
// to[k * to_step + j] = from[j * column_step + k] for k < rows, j < columns; zeros in the lanes beyond
// `columns`.
template <class T>
void pack_transposed(T* to, int64_t to_step, const T* from, int64_t column_step, int64_t rows,
                     int64_t columns);

}  // namespace cnnmath::CNNMATH_ISA
