// Matrix products, all matrices dense and row after row.
//
// matmul        args "a b bias? c", fields of MatmulShape
//   C[i][j] = act(bias[j] + (C[i][j] +) sum over l < k of A[i][l] B[l][j])
//   A is m x k (stored k x m when ta is 1), B is k x n (stored n x k when tb is 1), C is m x n, bias has n numbers.
//   C is added to when `accumulate` is 1, else overwritten; act is relu (max(0, .), NaN stays) when `relu` is 1.
//   C aliases nothing. m, n and k may be 0. `lasting` is 1 where the packed B serves many runs.
//
// column_sums   args "x y", fields "rows columns"
//   y[j] = sum over i < rows of x[i][j]
#pragma once
#include <cstdint>

namespace cnnmath {

struct MatmulShape {
  int64_t m, n, k;
  int64_t ta, tb;
  int64_t accumulate;
  int64_t relu;
  int64_t lasting;
};

}  // namespace cnnmath
