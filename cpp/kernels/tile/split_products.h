// Products of two matrices over their rows, on a matrix unit for bfloat16 (kernels/tile/split.h):
//
//   sums[i][o] (+)= sum over the rows r of x[r][i] y[r][o]
//
// Both are split into their parts as they are multiplied. Nothing is looked out for: what an infinity spoils is NaN.
#pragma once
#include "kernels/tile/split.h"

namespace cnnmath::CNNMATH_ISA {

// The shape of it, steps in numbers from row to row.
struct SplitProductsShape {
  int64_t ins, outs, most_rows;
  int64_t x_step, y_step, sums_step;
};

class SplitProducts {
 public:
  // Whether there is such a unit, and whole tiles of it.
  static bool takes(int64_t ins, int64_t outs);
  static int64_t bytes(const SplitProductsShape& shape);
  SplitProducts(const SplitProductsShape& shape, char* memory);  // so many bytes, aligned to 64
  void add(const float* x, const float* y, int64_t rows, bool accumulate, float* sums) const;

 private:
  SplitProductsShape shape_;
  char *x_, *y_;     // [tile of 16][block of rows][plane]
  int64_t* offset_;  // of each block
#if defined(__AMX_BF16__)
  SplitUnit unit_;
#endif
};

}  // namespace cnnmath::CNNMATH_ISA
