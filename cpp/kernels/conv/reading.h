// What a convolution makes of its source while it reads it, where what stood before it was never written.
#pragma once
#include "kernels/norm/affine.h"
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

// At most one of these.
struct Reading {
  // The source is max(0, normalised): coefficients as batch_norm gives them, [3][c].
  const float* norm = nullptr;
  // The source is the gradient of a max-pool of 2 x 2 windows apart: the array holds those of the maxima, [n][h / 2][w / 2][c],
  // and the codes their places (as in kernels/pool/pool.h). What no window holds is 0.
  const uint8_t* codes = nullptr;
};

// A map [n][h][w][c] so read: number k of the pixel (row, column), 0 outside. For what is not worth doing by vectors.
struct ReadMap {
  const float* base;
  int64_t h, w, c;
  Reading reading;
  float at(int64_t image, int64_t row, int64_t column, int64_t k) const {
    if (row < 0 || row >= h || column < 0 || column >= w) return 0;
    if (reading.codes) {
      if (row / 2 >= h / 2 || column / 2 >= w / 2) return 0;
      const int64_t window = ((image * (h / 2) + row / 2) * (w / 2) + column / 2) * c + k;
      return reading.codes[window] == row % 2 * 2 + column % 2 ? base[window] : 0;
    }
    const float x = base[((image * h + row) * w + column) * c + k];
    if (!reading.norm) return x;
    const float* norm = reading.norm + k;
    return Affine<float>{set1(norm[0]), set1(norm[c]), set1(norm[2 * c])}.relu_of(set1(x)).r[0];
  }
};

}  // namespace cnnmath::CNNMATH_ISA
