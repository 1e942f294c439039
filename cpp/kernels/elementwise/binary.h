// Two operands with broadcasting: an odometer over the outer dimensions, one of four loops over the
// innermost.
#pragma once
#include "kernels/elementwise/map.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

int64_t elements(const BinaryFields& f) {
  int64_t n = 1;
  for (int d = 0; d < f.rank; ++d) n *= f.n[d];
  return n;
}
int64_t binary_tasks(const int64_t* p, int) {
  return piece_tasks(elements(*reinterpret_cast<const BinaryFields*>(p)), 1);
}

enum class Access { dense, repeated, strided };

template <class T, Access access>
CNNMATH_INLINE Vec<T> read(const T* p, int64_t stride, int64_t i, int64_t n) {
  if constexpr (access == Access::repeated)
    return broadcast(p);
  else if constexpr (access == Access::strided)
    return gather_n(p + i * stride, stride, n);
  else
    return n == Vec<T>::lanes ? load(p + i) : load_n(p + i, n);
}

template <class T, class F, Access access_a, Access access_b>
CNNMATH_INLINE void row(const T* a, int64_t sa, const T* b, int64_t sb, T* y, Vec<T> c, int64_t n) {
  constexpr int L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L)
    store(y + i, F::f(read<T, access_a>(a, sa, i, L), read<T, access_b>(b, sb, i, L), c));
  if (i < n)
    store_n(y + i, F::f(read<T, access_a>(a, sa, i, n - i), read<T, access_b>(b, sb, i, n - i), c), n - i);
}

// One short row of b under every row of a (a bias): b is repeated into `tile` first, so that the loop is
// long.
constexpr int64_t kShortRow = 64, kTile = 512;
int64_t binary_scratch(const int64_t*) {
  return (kTile + 2 * kShortRow) * static_cast<int64_t>(sizeof(double));
}

template <class T, class F>
void short_rows(const T* a, const T* b, T* y, T* tile, Vec<T> c, int64_t n, Range r) {
  const int64_t span = kTile / n * n;
  const int64_t phase = r.begin % n;
  for (int64_t i = 0; i < span + n; ++i) tile[i] = b[i % n];
  for (int64_t i = r.begin; i < r.end; i += span)
    map2_range<T, F>(a + i, tile + phase, y + i, c, {0, min_of(span, r.end - i)});
}

template <class T, class F>
void binary_range(const Task& t, T* y, Vec<T> c) {
  const auto& f = *reinterpret_cast<const BinaryFields*>(t.p);
  const Range r = piece_range(elements(f), 1, t.index);
  if (r.begin >= r.end) return;
  const T *a = at<T>(t, 0), *b = at<T>(t, 1);
  const int last = static_cast<int>(f.rank) - 1;
  const int64_t n = last < 0 ? 1 : f.n[last], sa = last < 0 ? 0 : f.a[last], sb = last < 0 ? 0 : f.b[last];
  if (f.rank == 2 && n < kShortRow && sa == 1 && sb == 1 && f.a[0] == n && f.b[0] == 0)
    return short_rows<T, F>(a, b, y, static_cast<T*>(t.scratch), c, n, r);
  Odometer<2> o;
  o.rank = last < 0 ? 0 : last;
  for (int d = 0; d < last; ++d) o.size[d] = f.n[d], o.stride[0][d] = f.a[d], o.stride[1][d] = f.b[d];
  o.seek(r.begin / n);
  int64_t column = r.begin % n;
  for (int64_t i = r.begin; i < r.end;) {
    const int64_t count = min_of(n - column, r.end - i);
    const T *pa = a + o.offset[0] + column * sa, *pb = b + o.offset[1] + column * sb;
    if (sa == 1 && sb == 1)
      row<T, F, Access::dense, Access::dense>(pa, 1, pb, 1, y + i, c, count);
    else if (sa == 1 && sb == 0)
      row<T, F, Access::dense, Access::repeated>(pa, 1, pb, 0, y + i, c, count);
    else if (sa == 0 && sb == 1)
      row<T, F, Access::repeated, Access::dense>(pa, 0, pb, 1, y + i, c, count);
    else
      row<T, F, Access::strided, Access::strided>(pa, sa, pb, sb, y + i, c, count);
    i += count;
    column = 0;
    o.next();
  }
}

// args "a b y"
template <class T, class F>
void binary(const Task& t) {
  binary_range<T, F>(t, at<T>(t, 2), zero<T>());
}
// args "a b c y"
template <class T, class F>
void binary_cell(const Task& t) {
  binary_range<T, F>(t, at<T>(t, 3), set1<T>(static_cast<T>(cell_of(t.a[2]))));
}

}  // namespace
}  // namespace cnnmath::CNNMATH_ISA
