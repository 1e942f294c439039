// Losses, each with its gradient in the same pass.
//
// cross_entropy: logits x are dense (outer, classes, inner), targets follow (outer, inner). With
//   log p_c = (x_c - m) - log sum_j e^(x_j - m),   W = sum_c w_c  (w = 1 without weight),   s = label smoothing,
// a row's loss and its gradient are
//   indices        l = -(1-s) w_t log p_t - s/C sum_c w_c log p_c        dx_c = p_c A - (1-s) w_t [c = t] - s/C w_c
//                  (0 for a row with t = ignore_index)                   A = (1-s) w_t + s/C W
//   probabilities  l = -sum_c w_c q_c log p_c,  q = (1-s) target + s/C   dx_c = p_c sum_j w_j q_j - w_c q_c
//   reduction      0 none: l of every row                                dx as above, for a cotangent of one in every row
//                  1 mean: sum l / sum of w_t over rows not ignored      dx divided by the same number
//                          (probabilities: / number of rows)
//                  2 sum
// `target` is int64 or, with probabilities = 1, T in the layout of x. `weight` (C), `smoothing` (a cell) and `dx` may be
// null, and then are 1, 0 and not wanted. An index outside [0, C) that is not ignore_index makes its row NaN
// and goes into `error`, if that is not null: two int64, the number of such rows and the first of their indices.
//
// mse_loss: l = (x - y)², dx = 2 (x - y), reduced as above over n dense elements (mean: / n). dx may be null.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct CrossEntropyFields {
  int64_t outer, classes, inner, probabilities, reduction, ignore_index;
};
struct MseFields {
  int64_t n, reduction;
};

extern const KernelList loss_kernels;

}  // namespace cnnmath::CNNMATH_ISA
