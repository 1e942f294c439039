// Updates of parameters: one pass over a list of segments, element by element.
//
// Segments  a parameter and its state, each a dense array of `sizes[i]` elements. The pointer list repeats
//           for every parameter: sgd  p g (v with buffers = 1);  adam  p g m s (h with amsgrad = 1).
// Cells     double.
// Aliasing  p, v, m, s, h are read and written in place; g is only read; no two arrays overlap.
//
// sgd   d = g + weight_decay * p
//       with buffers:  v = d at the first step (first != 0), else momentum * v + (1 - dampening) * d
//                      d = d + momentum * v (nesterov = 1) or v (0)
//       p = p - lr * d
//
// adam  decoupled = 0:  g = g + weight_decay * p;   1 (AdamW):  p = (1 - lr * weight_decay) * p
//       m = m + (1 - beta1) * (g - m)
//       s = beta2 * s + (1 - beta2) * g^2
//       h = max(h, s)                                   with amsgrad = 1; otherwise h stands for s
//       p = p - lr / correction1 * m / (sqrt(h) / sqrt(correction2) + eps)
//       where correction_i = 1 - beta_i^t at step t.
#pragma once
#include "core/kernel.h"
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

struct SgdShape {
  int64_t nesterov, buffers, count;
  int64_t sizes[1];  // count of them
};
struct AdamShape {
  int64_t decoupled, amsgrad, count;
  int64_t sizes[1];
};
// What both begin with; the kernels deal their segments alike.
struct SegmentList {
  int64_t choices[2];
  int64_t count;
  int64_t sizes[1];
};

}  // namespace cnnmath::CNNMATH_ISA
