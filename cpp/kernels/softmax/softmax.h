// Softmax along one dimension: dense arrays seen as (outer, n, inner), the sums along n.
//
//   softmax       y = e^(x - m) / S,  m = max x,  S = sum e^(x - m)      softmax_grad      dx = y (dy - sum dy y)
//   log_softmax   y = (x - m) - log S                                    log_softmax_grad  dx = dy - e^y sum dy
//
// A line with a NaN or a +inf, or of -inf only, gives NaN. y may be x; dx may be dy.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct SoftmaxFields {
  int64_t outer, n, inner;
};

extern const KernelList softmax_kernels;

}  // namespace cnnmath::CNNMATH_ISA
