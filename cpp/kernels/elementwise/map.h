// Loops over dense arrays.
#pragma once
#include "kernels/elementwise/elementwise.h"
#include "kernels/elementwise/ops.h"
#include "simd/loops.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

int64_t map_tasks(const int64_t* p, int) { return piece_tasks(p[0], 1); }

template <class T>
T* at(const Task& t, int argument) {
  return static_cast<T*>(t.a[argument]);
}

// y = f(x), scalar in cell number `cell` (or none)
template <class T, class F>
void map1_range(const T* x, T* y, Vec<T> c, Range r) {
  constexpr int L = Vec<T>::lanes;
  int64_t i = r.begin;
  for (; i + 4 * L <= r.end; i += 4 * L) {
    const Vec<T> a = load(x + i), b = load(x + i + L), d = load(x + i + 2 * L), e = load(x + i + 3 * L);
    store(y + i, F::f(a, c));
    store(y + i + L, F::f(b, c));
    store(y + i + 2 * L, F::f(d, c));
    store(y + i + 3 * L, F::f(e, c));
  }
  for (; i < r.end; i += L) {
    const int64_t n = min_of(L, r.end - i);
    store_n(y + i, F::f(load_n(x + i, n), c), n);
  }
}

// args "x y"
template <class T, class F>
void map1(const Task& t) {
  map1_range<T, F>(at<T>(t, 0), at<T>(t, 1), zero<T>(), piece_range(t.p[0], 1, t.index));
}
// args "x c y"
template <class T, class F>
void map1_cell(const Task& t) {
  const Vec<T> c = set1<T>(static_cast<T>(cell_of(t.a[1])));
  map1_range<T, F>(at<T>(t, 0), at<T>(t, 2), c, piece_range(t.p[0], 1, t.index));
}
// args "x factor? y"
template <class T>
void scale(const Task& t) {
  const Vec<T> c = set1<T>(static_cast<T>(t.a[1] ? cell_of(t.a[1]) : double_of(t.p[1])));
  map1_range<T, op::Scale<T>>(at<T>(t, 0), at<T>(t, 2), c, piece_range(t.p[0], 1, t.index));
}

template <class T, class F>
void map2_range(const T* a, const T* b, T* y, Vec<T> c, Range r) {
  constexpr int L = Vec<T>::lanes;
  int64_t i = r.begin;
  for (; i + 2 * L <= r.end; i += 2 * L) {
    const Vec<T> a0 = load(a + i), b0 = load(b + i), a1 = load(a + i + L), b1 = load(b + i + L);
    store(y + i, F::f(a0, b0, c));
    store(y + i + L, F::f(a1, b1, c));
  }
  for (; i < r.end; i += L) {
    const int64_t n = min_of(L, r.end - i);
    store_n(y + i, F::f(load_n(a + i, n), load_n(b + i, n), c), n);
  }
}

// args "a b y"
template <class T, class F>
void map2(const Task& t) {
  map2_range<T, F>(at<T>(t, 0), at<T>(t, 1), at<T>(t, 2), zero<T>(), piece_range(t.p[0], 1, t.index));
}
// args "a b c y"
template <class T, class F>
void map2_cell(const Task& t) {
  const Vec<T> c = set1<T>(static_cast<T>(cell_of(t.a[2])));
  map2_range<T, F>(at<T>(t, 0), at<T>(t, 1), at<T>(t, 3), c, piece_range(t.p[0], 1, t.index));
}
// args "x y": y += x
template <class T>
void accumulate(const Task& t) {
  map2_range<T, op::Add<T>>(at<T>(t, 1), at<T>(t, 0), at<T>(t, 1), zero<T>(),
                            piece_range(t.p[0], 1, t.index));
}

// args "value? y"
template <class T>
void fill(const Task& t) {
  const T value = static_cast<T>(t.a[0] ? cell_of(t.a[0]) : double_of(t.p[1]));
  const Range r = piece_range(t.p[0], 1, t.index);
  T* y = at<T>(t, 1);
  for (int64_t i = r.begin; i < r.end; ++i) y[i] = value;
}

// args "x y"
template <class From, class To>
void cast(const Task& t) {
  const Range r = piece_range(t.p[0], 1, t.index);
  const From* x = at<From>(t, 0);
  To* y = at<To>(t, 1);
  for (int64_t i = r.begin; i < r.end; ++i) y[i] = static_cast<To>(x[i]);
}

}  // namespace
}  // namespace cnnmath::CNNMATH_ISA
