// Batch normalisation over the rows of a matrix: x is [rows][c], a channels-last map with its pixels as rows.
//
//   batch_norm        mean = sum(x) / rows,  var = sum((x - mean)^2) / rows,  invstd = 1 / sqrt(var + eps)
//                     for each channel;
//                     y = (x - mean) * invstd * weight + bias [+ residual], then max(y, 0) with relu = 1
//                     running_mean = (1 - momentum) * running_mean + momentum * mean, and running_var
//                     likewise with the unbiased sum((x - mean)^2) / (rows - 1)
//                     affine = mean, invstd * weight and bias, [3][c]. With moment_mean and m2, the mean of x and its
//                     sum((x - mean)^2) as a convolution gave them, x is not read for these; without y none is written
//   batch_norm_eval   the same y with the given mean and var
//   batch_norm_backward
//                     dz = dy, or with relu = 1: dy where not y <= 0, else 0   (the gradient of the residual)
//                     dbias = sum(dz),  dweight = sum(dz * (x - mean)) * invstd
//                     training = 1:  dx = weight * invstd * (dz - dbias / rows - (x - mean) * invstd * dweight / rows)
//                     training = 0:  dx = weight * invstd * dz
//                     training = 1 takes invstd, training = 0 takes var and eps. sums = 0 (training = 0 only) says
//                     that neither dweight nor dbias nor dz is wanted. Without y (training = 1, relu = 1) it is what
//                     batch_norm gives without a residual: computed anew from x and bias, to the bit, as both are at hand.
//
// A missing weight is 1, a missing bias or residual 0. momentum and eps are cells (double); momentum is read
// only with the running arrays. x is read in training = 0 only for dweight.
//
// Aliasing  y may be x or residual, dx may be dy, x or dz, dz may be dy; element by element, no shifts.
//
// Statistics never form E[x^2] - E[x]^2: a block of rows is read twice while it is in the first cache, for
// its mean and then for its sum of squared differences, and blocks are merged by Chan's formula (Chan, Golub,
// LeVeque 1979), the chunks of rows of different tasks in double and in order.
#pragma once
#include "core/kernel.h"
#include "kernels/norm/affine.h"
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

struct NormShape {
  int64_t rows, c, relu;
};
struct NormBackwardShape {
  int64_t rows, c, relu, training, sums;
};
#define CNNMATH_NORM_FIELDS "rows c relu"
#define CNNMATH_NORM_BACKWARD_FIELDS "rows c relu training sums"

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Rows in chunks: every chunk but the last has `rows` of them.
struct Chunks {
  int64_t rows, count;
};
static inline Chunks in_chunks(int64_t rows, int64_t c, int64_t most_chunks) {
  constexpr int64_t kElements = 32768;
  const int64_t fit = most(kElements / most(c, 1), 1), share = (rows + most_chunks - 1) / most_chunks;
  const int64_t size = most(fit, share);
  return {size, (rows + size - 1) / size};
}
// A small call is one task of one phase.
static inline bool norm_small(int64_t rows, int64_t c) { return rows * c <= 20480; }
// Chunks of a reduction: their results are combined one after the other.
static inline Chunks sum_chunks(int64_t rows, int64_t c) {
  return norm_small(rows, c) ? Chunks{most(rows, 1), rows > 0 ? 1 : 0} : in_chunks(rows, c, 256);
}
// Chunks of an elementwise pass.
static inline Chunks map_chunks(int64_t rows, int64_t c) {
  return norm_small(rows, c) ? Chunks{most(rows, 1), 1} : in_chunks(rows, c, int64_t{1} << 40);
}
// Channels that one task combines.
constexpr int64_t kGroup = 64;
static inline int64_t groups(int64_t c) { return (c + kGroup - 1) / kGroup; }

// Vectors of channels whose coefficients are kept in registers over a chunk of rows.
constexpr int kTile = kVecRegisters >= 32 ? 4 : 2;

template <class T, bool Whole>
static CNNMATH_INLINE Vec<T> take(const T* p, int64_t m) {
  if constexpr (Whole)
    return load(p);
  else
    return load_n(p, m);
}
template <class T, bool Whole>
static CNNMATH_INLINE void put(T* p, Vec<T> v, int64_t m) {
  if constexpr (Whole)
    store(p, v);
  else
    store_n(p, v, m);
}
static inline double norm_cell(const void* p) { return *static_cast<const double*>(p); }
static CNNMATH_INLINE double root(double x) { return sqrt(set1<double>(x)).r[0]; }

template <class T>
void batch_norm(const Task& t);
template <class T>
void batch_norm_eval(const Task& t);
template <class T>
void batch_norm_backward(const Task& t);

}  // namespace cnnmath::CNNMATH_ISA
