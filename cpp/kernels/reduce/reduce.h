// Sums.
//
//   sum   y[k] = sum over r of x[k·s + r·s], divided by `divisor` (the bits of a double; 1 for a sum, the number of
//         terms for a mean). x has `kept` + `reduced` <= 6 dimensions n0, n1, ... with element strides s0, ...: first the
//         kept ones in the order of y (slowest first), then the reduced ones, longest stride first. y is dense.
//         Fast where the last kept or the last reduced dimension has stride 1. An empty sum is 0, an empty mean NaN.
//   sum_squares, sum_abs            y = strength · sum x², strength · sum |x| over n dense elements; strength is a cell,
//                                   null is 1.
//   sum_squares_grad, sum_abs_grad  dx = dy · strength · 2x, dy · strength · sign(x) (NaN stays); dy is one element.
//
// Order of a sum, a function of shape and vector width alone: the reduced elements are cut into chunks of fixed length;
// a chunk is summed in blocks, so that errors grow with the square root of its length at most; the chunks are added
// in order, 64 at a time.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct SumFields {
  int64_t kept, reduced, n[6], s[6], divisor;
};
struct PenaltyFields {
  int64_t n;
};

extern const KernelList reduce_kernels;

}  // namespace cnnmath::CNNMATH_ISA
