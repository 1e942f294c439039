#include "kernels/tile/pack.h"

namespace cnnmath::CNNMATH_ISA {

template <class T>
void pack_transposed(T* to, int64_t to_step, const T* from, int64_t column_step, int64_t rows,
                     int64_t columns) {
  constexpr int L = Vec<T>::lanes;
  for (int64_t k = 0; k < rows; k += L) {
    const int64_t left = rows - k;
    Vec<T> square[L];
#pragma GCC unroll 16
    for (int j = 0; j < L; ++j) {
      const T* p = from + j * column_step + k;
      square[j] = j >= columns ? zero<T>() : left >= L ? load(p) : load_n(p, left);
    }
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      if (i < left) store(to + (k + i) * to_step, square[i]);
  }
}

template <class T>
void pack_panel(T* to, int64_t width, const T* from, int64_t row_step, int64_t column_step, int64_t rows,
                int64_t columns) {
  constexpr int L = Vec<T>::lanes;
  for (int64_t j = 0; j < width; j += L) {
    const int64_t valid = columns - j;
    if (column_step == 1 && valid >= L) {
      for (int64_t k = 0; k < rows; ++k) store(to + k * width + j, load(from + k * row_step + j));
    } else if (column_step == 1) {
      for (int64_t k = 0; k < rows; ++k) {
        const T* p = from + k * row_step + j;
        store(to + k * width + j, valid > 0 ? load_n(p, valid) : zero<T>());
      }
    } else {
      pack_transposed(to + j, width, from + j * column_step, column_step, rows, valid);
    }
  }
}

template void pack_transposed<float>(float*, int64_t, const float*, int64_t, int64_t, int64_t);
template void pack_transposed<double>(double*, int64_t, const double*, int64_t, int64_t, int64_t);
template void pack_panel<float>(float*, int64_t, const float*, int64_t, int64_t, int64_t, int64_t);
template void pack_panel<double>(double*, int64_t, const double*, int64_t, int64_t, int64_t, int64_t);

}  // namespace cnnmath::CNNMATH_ISA
