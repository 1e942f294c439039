// What the memory-bound families share: how work is cut into tasks, and walking a nest of strided dimensions.
//
// A task covers about kGrain numbers. Calls of up to kSmall numbers are one task, so that small programs run
// without a barrier. Both are constants: the cut is part of what fixes the bits of a result.
#pragma once
#include "core/kernel.h"
#include "simd/vec.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

constexpr int64_t kGrain = 16384;
constexpr int64_t kSmall = 20480;
constexpr int kMaxDims = 6;

struct Range {
  int64_t begin, end;
};
// Tasks for n equal pieces of `work` numbers each, and the pieces of one of them.
static inline int64_t piece_grain(int64_t work) { return max_of(1, kGrain / max_of(1, work)); }
static inline int64_t piece_tasks(int64_t n, int64_t work) {
  return n * work <= kSmall ? 1 : ceil_div(n, piece_grain(work));
}
static inline Range piece_range(int64_t n, int64_t work, int64_t index) {
  if (n * work <= kSmall) return {0, n};
  const int64_t grain = piece_grain(work);
  return {index * grain, min_of(n, (index + 1) * grain)};
}

// A double kept in an int64 parameter, and one in an 8-byte cell.
static inline double double_of(int64_t cell) {
  double d;
  __builtin_memcpy(&d, &cell, sizeof d);
  return d;
}
static inline double cell_of(const void* p) {
  double d;
  __builtin_memcpy(&d, p, sizeof d);
  return d;
}

static inline int one_phase(const int64_t*) { return 1; }
static inline int64_t no_bytes(const int64_t*) { return 0; }

// Walks `rank` dimensions, the last one fastest, and keeps the offsets of `operands` arrays.
template <int operands>
struct Odometer {
  int rank;
  int64_t size[kMaxDims], at[kMaxDims], stride[operands][kMaxDims], offset[operands];

  CNNMATH_INLINE void seek(int64_t flat) {
    for (int o = 0; o < operands; ++o) offset[o] = 0;
    for (int d = rank - 1; d >= 0; --d) {
      at[d] = flat % size[d];
      flat /= size[d];
      for (int o = 0; o < operands; ++o) offset[o] += at[d] * stride[o][d];
    }
  }
  CNNMATH_INLINE void next() {
    for (int d = rank - 1; d >= 0; --d) {
      for (int o = 0; o < operands; ++o) offset[o] += stride[o][d];
      if (++at[d] < size[d]) return;
      at[d] = 0;
      for (int o = 0; o < operands; ++o) offset[o] -= size[d] * stride[o][d];
    }
  }
};

// The first n lanes from p, p + stride, ...; zeros elsewhere.
template <class T>
static CNNMATH_INLINE Vec<T> gather_n(const T* p, int64_t stride, int64_t n) {
  T t[Vec<T>::lanes] = {};
  for (int k = 0; k < n; ++k) t[k] = p[k * stride];
  return load(t);
}

}  // namespace cnnmath::CNNMATH_ISA
