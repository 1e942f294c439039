// Element by element.
//
//   map      y[i] = f(x[i]), y[i] = f(a[i], b[i]): dense arrays of n elements in the same order of dimensions.
//            An output may be the very array of an input; otherwise they do not overlap.
//   binary   y = f(a, b) with broadcasting: y is dense over `rank` <= 6 dimensions n0, n1, ... (slowest first); a and b
//            have element strides a0, ... and b0, ..., 0 along dimensions in which they are repeated. The caller
//            merges dimensions where it can, so that the last one is long.
//
// Kernels (f32 and f64; cells are doubles):
//   relu            y = max(x, 0), NaN stays          relu_grad        dx = y <= 0 ? 0 : dy   (from the output)
//   leaky_relu      y = x > 0 ? x : slope x           leaky_relu_grad  dx = x > 0 ? dy : slope dy
//   sigmoid         y = 1 / (1 + e^-x)                sigmoid_grad     dx = dy y (1 - y)
//   tanh            y = tanh x                        tanh_grad        dx = dy (1 - y²)
//   neg, abs, exp, log, sqrt, copy                    abs_grad         dx = dy sign(x)
//   scale           y = factor x                      accumulate       y += x
//   add_scalar      y = x + c                         scalar_sub       y = c - x
//   div_scalar      y = x / c                         scalar_div       y = c / x
//   fill            y = value
//   add, sub, mul, div, add_relu = max(a + b, 0), add_scaled = a + alpha b
//   to_f32, to_f64  from f32, f64, i64, u8, rounded to nearest
//
// `scale` and `fill` take their number from the cell, or where that is null from the parameter.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct MapFields {
  int64_t n;
};
struct ScaleFields {  // scale, fill
  int64_t n, value;   // value: the bits of a double
};
struct BinaryFields {
  int64_t rank, n[6], a[6], b[6];
};

extern const KernelList elementwise_kernels;

}  // namespace cnnmath::CNNMATH_ISA
