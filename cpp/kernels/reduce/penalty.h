// Sums of squares and of absolute values of dense arrays, and their gradients.
#pragma once
#include "kernels/reduce/sum.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

template <class T>
struct Square {
  static CNNMATH_INLINE Vec<T> term(Vec<T> x) { return x * x; }
  static CNNMATH_INLINE Vec<T> slope(Vec<T> x) { return x + x; }
};
template <class T>
struct Absolute {
  static CNNMATH_INLINE Vec<T> term(Vec<T> x) { return abs(x); }
  static CNNMATH_INLINE Vec<T> slope(Vec<T> x) {  // 0 at 0; NaN stays
    return select(gt(x, zero<T>()), set1<T>(1), select(lt(x, zero<T>()), set1<T>(-1), x));
  }
};

int penalty_phases(const int64_t* p) { return p[0] <= kSmall ? 1 : 2; }
int64_t penalty_tasks(const int64_t* p, int phase) { return phase == 1 ? 1 : piece_tasks(p[0], 1); }
template <class T>
int64_t penalty_workspace(const int64_t* p) {
  return piece_tasks(p[0], 1) * static_cast<int64_t>(sizeof(T));
}

// args "x strength? y"
template <class T, class F>
void penalty(const Task& t) {
  constexpr int64_t L = Vec<T>::lanes, block = 4 * L * kBlockRows;
  const T* x = static_cast<const T*>(t.a[0]);
  T* parts = static_cast<T*>(t.workspace);
  if (t.phase == 0) {
    const Range r = piece_range(t.p[0], 1, t.index);
    Combined<Vec<T>> total{};
    for (int64_t i = r.begin; i < r.end; i += block) {
      const int64_t end = min_of(r.end, i + block);
      Vec<T> a[4] = {};
      int64_t j = i;
      for (; j + 4 * L <= end; j += 4 * L)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) a[k] = a[k] + F::term(load(x + j + k * L));
      for (; j < end; j += L) a[0] = a[0] + F::term(load_n(x + j, min_of(L, end - j)));
      total.add((a[0] + a[1]) + (a[2] + a[3]));
    }
    total.put_away();
    parts[t.index] = hsum(total.total);
    if (penalty_phases(t.p) == 2) return;
  }
  const T strength = t.a[1] ? static_cast<T>(cell_of(t.a[1])) : T(1);
  *static_cast<T*>(t.a[2]) = strength * sum_run(parts, 1, penalty_tasks(t.p, 0));
}

int64_t penalty_grad_tasks(const int64_t* p, int) { return piece_tasks(p[0], 1); }
// args "dy x strength? dx"
template <class T, class F>
void penalty_grad(const Task& t) {
  constexpr int64_t L = Vec<T>::lanes;
  const T strength = t.a[2] ? static_cast<T>(cell_of(t.a[2])) : T(1);
  const Vec<T> scale = set1(*static_cast<const T*>(t.a[0]) * strength);
  const T* x = static_cast<const T*>(t.a[1]);
  T* dx = static_cast<T*>(t.a[3]);
  const Range r = piece_range(t.p[0], 1, t.index);
  for (int64_t i = r.begin; i < r.end; i += L) {
    const int64_t n = min_of(L, r.end - i);
    store_n(dx + i, scale * F::slope(load_n(x + i, n)), n);
  }
}

}  // namespace
}  // namespace cnnmath::CNNMATH_ISA
