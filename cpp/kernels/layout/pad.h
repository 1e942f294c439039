// Padding: every element of the output is read from its source, or is the constant.
#pragma once
#include "kernels/layout/relayout.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

enum PadMode : int64_t { kConstant, kReflect, kReplicate, kCircular };

// Where element i of the padded dimension comes from; -1: from outside (constant mode only).
CNNMATH_INLINE int64_t source(int64_t i, int64_t left, int64_t m, int64_t mode) {
  const int64_t k = i - left;
  if (k >= 0 && k < m) return k;
  if (mode == kReflect) return k < 0 ? -k : 2 * (m - 1) - k;
  if (mode == kReplicate) return k < 0 ? 0 : m - 1;
  if (mode == kCircular) return k < 0 ? k + m : k - m;
  return -1;
}

int64_t pad_rows(const PadFields& f) {
  int64_t rows = 1;
  for (int d = 0; d + 1 < f.rank; ++d) rows *= f.n[d];
  return rows;
}
int64_t pad_tasks(const int64_t* p, int) {
  const auto& f = *reinterpret_cast<const PadFields*>(p);
  return piece_tasks(pad_rows(f), f.rank > 0 ? f.n[f.rank - 1] : 1);
}

// args "x value? y"
template <class E, class T>
void pad(const Task& t) {
  const auto& f = *reinterpret_cast<const PadFields*>(t.p);
  const T number = t.a[1] ? static_cast<T>(cell_of(t.a[1])) : T(0);
  E value;
  __builtin_memcpy(&value, &number, sizeof value);
  const E* x = static_cast<const E*>(t.a[0]);
  E* y = static_cast<E*>(t.a[2]);
  const int last = static_cast<int>(f.rank) - 1;
  if (last < 0) {
    *y = *x;
    return;
  }
  const int64_t n = f.n[last], m = f.m[last], left = f.left[last], mode = f.mode;
  const Range r = piece_range(pad_rows(f), n, t.index);
  // the part of a row that lies on x
  const int64_t begin = min_of(n, max_of(0, left)), end = max_of(begin, min_of(n, left + m));
  Odometer<1> o;
  o.rank = last;
  for (int d = 0; d < last; ++d) o.size[d] = f.n[d], o.stride[0][d] = 0;
  if (n == 0 || r.begin >= r.end) return;
  o.seek(r.begin);
  for (int64_t i = r.begin; i < r.end; ++i, o.next()) {
    int64_t from = 0;  // the row of x, or negative
    for (int d = 0; d < last && from >= 0; ++d) {
      const int64_t k = source(o.at[d], f.left[d], f.m[d], mode);
      from = k < 0 ? -1 : from * f.m[d] + k;
    }
    E* to = y + i * n;
    if (from < 0) {
      for (int64_t j = 0; j < n; ++j) to[j] = value;
      continue;
    }
    const E* row = x + from * m;
    for (int64_t j = 0; j < begin; ++j) to[j] = mode == kConstant ? value : row[source(j, left, m, mode)];
    copy_row(row + begin - left, 1, to + begin, 1, end - begin);
    for (int64_t j = end; j < n; ++j) to[j] = mode == kConstant ? value : row[source(j, left, m, mode)];
  }
}

int64_t pad_grad_tasks(const int64_t* p, int) {
  const auto& f = *reinterpret_cast<const PadGradFields*>(p);
  return piece_tasks(f.outer, f.n * f.inner);
}
// args "dy dx"
template <class T>
void pad_grad(const Task& t) {
  const auto& f = *reinterpret_cast<const PadGradFields*>(t.p);
  const Range r = piece_range(f.outer, f.n * f.inner, t.index);
  const T* dy = static_cast<const T*>(t.a[0]);
  T* dx = static_cast<T*>(t.a[1]);
  for (int64_t o = r.begin; o < r.end; ++o) {
    T* to = dx + o * f.m * f.inner;
    for (int64_t i = 0; i < f.m * f.inner; ++i) to[i] = 0;
    for (int64_t j = 0; j < f.n; ++j) {
      const T* from = dy + (o * f.n + j) * f.inner;
      T* sum = to + source(j, f.left, f.m, f.mode) * f.inner;
      for (int64_t i = 0; i < f.inner; ++i) sum[i] += from[i];
    }
  }
}

}  // namespace
}  // namespace cnnmath::CNNMATH_ISA
