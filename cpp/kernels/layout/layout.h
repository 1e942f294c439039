// Moving numbers without changing them.
//
//   relayout  y[y0 + i·sy] = x[x0 + i·sx] for every index i of a nest of `rank` <= 6 dimensions n0, n1, ..., in elements.
//             Strides of x may be 0 (repeat) and in any order: the copy between two orders of dimensions, a slice
//             (x0), a part of a concatenation (y0). Different i give different places of y; x and y do not overlap.
//             Fast where the last dimension has sy = 1 and either sx = 1 (rows) or some other dimension has sx = 1
//             (tiles are transposed in registers).   f32, f64, i64, u8.
//   pad       y over sizes n, x over sizes m, both dense: y[i] = x[source(i - left)] dimension by dimension; `left` may be
//             negative (cut). mode 0 constant (the cell `value`, outside x; null is 0), 1 reflect (-1 -> 1),
//             2 replicate (-1 -> 0), 3 circular (-1 -> m-1). Every source must lie in [0, m).   f32, f64, i64, u8.
//   pad_grad  one dimension: dx[o][k][i] = sum over j with source(j - left) = k of dy[o][j][i], j ascending; dy is
//             (outer, n, inner), dx (outer, m, inner), dense. Modes 1 to 3.   f32, f64.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct RelayoutFields {
  int64_t rank, x0, y0, n[6], sx[6], sy[6];
};
struct PadFields {
  int64_t rank, mode, n[6], m[6], left[6];
};
struct PadGradFields {
  int64_t outer, n, m, inner, left, mode;
};

extern const KernelList layout_kernels;

}  // namespace cnnmath::CNNMATH_ISA
