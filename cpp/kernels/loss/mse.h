// Mean squared error: chunks, then their combination.
#pragma once
#include "kernels/loss/cross_entropy.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

int mse_phases(const int64_t* p) { return p[1] == kNone || p[0] <= kSmall ? 1 : 2; }
int64_t mse_tasks(const int64_t* p, int phase) { return phase == 1 ? 1 : piece_tasks(p[0], 1); }
template <class T>
int64_t mse_workspace(const int64_t* p) {
  return p[1] == kNone ? 0 : piece_tasks(p[0], 1) * static_cast<int64_t>(sizeof(T));
}

// args "x target loss dx?"
template <class T>
void mse(const Task& t) {
  constexpr int64_t L = Vec<T>::lanes, block = L * kBlockRows;
  const auto& f = *reinterpret_cast<const MseFields*>(t.p);
  const T *x = static_cast<const T*>(t.a[0]), *y = static_cast<const T*>(t.a[1]);
  T *loss = static_cast<T*>(t.a[2]), *dx = static_cast<T*>(t.a[3]), *parts = static_cast<T*>(t.workspace);
  const T divisor = f.reduction == kMean ? static_cast<T>(f.n) : T(1);
  if (t.phase == 0) {
    const Vec<T> slope = set1(T(2) / divisor);
    const Range r = piece_range(f.n, 1, t.index);
    Combined<Vec<T>> total{};
    for (int64_t i = r.begin; i < r.end; i += block) {
      const int64_t end = min_of(r.end, i + block);
      Vec<T> a = zero<T>();
      for (int64_t j = i; j < end; j += L) {
        const int64_t n = min_of(L, end - j);
        const Vec<T> d = load_n(x + j, n) - load_n(y + j, n);
        if (f.reduction == kNone)
          store_n(loss + j, d * d, n);
        else
          a = fma(d, d, a);
        if (dx) store_n(dx + j, slope * d, n);
      }
      total.add(a);
    }
    if (f.reduction == kNone) return;
    total.put_away();
    parts[t.index] = hsum(total.total);
    if (mse_phases(t.p) == 2) return;
  }
  *loss = sum_run(parts, 1, mse_tasks(t.p, 0)) / divisor;
}

}  // namespace
}  // namespace cnnmath::CNNMATH_ISA
