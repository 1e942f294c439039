// Sums over strided dimensions, in two phases: chunks, then their combination.
#pragma once
#include "kernels/reduce/reduce.h"
#include "simd/loops.h"
#include "simd/sums.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

constexpr int64_t kColumns = 512;  // columns that one task sums at a time
constexpr int64_t kFoldedColumns = 16;

// How a sum is cut. A unit is one output (rows) or up to kColumns neighbouring ones (columns).
struct Cut {
  enum { rows, columns, folded } way;
  int64_t outputs, terms;  // the two extents
  int64_t columns_dim;     // extent of the last kept dimension where it is walked by vectors, else 1
  int64_t width, per_row;  // columns in a unit; units along the last kept dimension
  int64_t units, chunk, chunks;
};

inline Cut cut_of(const SumFields& f) {
  Cut c{};
  c.outputs = c.terms = 1;
  const int64_t rank = f.kept + f.reduced;
  for (int64_t d = 0; d < rank; ++d) (d < f.kept ? c.outputs : c.terms) *= f.n[d];
  const bool by_columns = f.kept > 0 && f.s[f.kept - 1] == 1 && !(f.reduced > 0 && f.s[rank - 1] == 1);
  c.way = by_columns ? Cut::columns : Cut::rows;
  c.columns_dim = by_columns ? f.n[f.kept - 1] : 1;
  if (by_columns && f.kept == 1 && f.reduced == 1 && c.columns_dim <= kFoldedColumns &&
      f.s[1] == c.columns_dim)
    c.way = Cut::folded;
  c.width = min_of(c.columns_dim, kColumns);
  c.per_row = c.width ? ceil_div(c.columns_dim, c.width) : 0;
  c.units = c.columns_dim ? c.outputs / c.columns_dim * c.per_row : 0;
  // Chunks only where the outputs alone would not occupy many threads.
  const bool whole = c.outputs * c.terms <= kSmall || c.units >= 64;
  c.chunk = whole ? max_of(1, c.terms) : max_of(kBlockRows, 2 * kGrain / max_of(1, c.width));
  c.chunks = max_of(1, ceil_div(c.terms, c.chunk));
  return c;
}

inline Odometer<1> walk(const SumFields& f, int64_t begin, int64_t end) {
  Odometer<1> o;
  o.rank = static_cast<int>(max_of(0, end - begin));
  for (int64_t d = begin; d < end; ++d) o.size[d - begin] = f.n[d], o.stride[0][d - begin] = f.s[d];
  return o;
}

// Runs f(offset, length) over the terms [r.begin, r.end): pieces of the last reduced dimension.
template <class F>
CNNMATH_INLINE void for_runs(const SumFields& f, Range r, F body) {
  const int64_t rank = f.kept + f.reduced;
  const int64_t n = f.reduced > 0 ? f.n[rank - 1] : 1, s = f.reduced > 0 ? f.s[rank - 1] : 1;
  if (r.begin >= r.end) return;
  if (f.reduced <= 1) return body(r.begin * s, r.end - r.begin, s);
  Odometer<1> o = walk(f, f.kept, rank - 1);
  o.seek(r.begin / n);
  int64_t column = r.begin % n;
  for (int64_t i = r.begin; i < r.end;) {
    const int64_t count = min_of(n - column, r.end - i);
    body(o.offset[0] + column * s, count, s);
    i += count;
    column = 0;
    o.next();
  }
}

template <class T>
T sum_row(const SumFields& f, const T* x, Range terms) {
  T first = 0, group = 0;
  int count = 0;
  for_runs(f, terms, [&](int64_t offset, int64_t n, int64_t s) {
    group += sum_run(x + offset, s, n);
    if (++count == 64) first += group, group = 0, count = 0;
  });
  return first + group;
}

// y[0 .. columns) = sums of columns, `vectors` vectors wide (the last one partly used)
template <class T, int vectors>
void sum_columns(const SumFields& f, const T* x, Range terms, T* y, int64_t columns) {
  constexpr int64_t L = Vec<T>::lanes;
  Combined<Vec<T>> total[vectors] = {};
  Vec<T> a[vectors] = {};
  int64_t rows = 0;
  const int64_t last = columns - (vectors - 1) * L;
  for_runs(f, terms, [&](int64_t offset, int64_t n, int64_t s) {
    const T* p = x + offset;
    while (n > 0) {
      const int64_t take = min_of(n, kBlockRows - rows);
      if (last == L)
        for (int64_t i = 0; i < take; ++i, p += s)
#pragma GCC unroll 4
          for (int v = 0; v < vectors; ++v) a[v] = a[v] + load(p + v * L);
      else
        for (int64_t i = 0; i < take; ++i, p += s) {
#pragma GCC unroll 4
          for (int v = 0; v + 1 < vectors; ++v) a[v] = a[v] + load(p + v * L);
          a[vectors - 1] = a[vectors - 1] + load_n(p + (vectors - 1) * L, last);
        }
      n -= take;
      rows += take;
      if (rows < kBlockRows) continue;
      for (int v = 0; v < vectors; ++v) total[v].add(a[v]), a[v] = Vec<T>{};
      rows = 0;
    }
  });
  for (int v = 0; v < vectors; ++v) {
    total[v].add(a[v]);
    total[v].put_away();
    store_n(y + v * L, total[v].total, min_of(L, columns - v * L));
  }
}

// Few columns, dense: several rows side by side make one row of whole vectors.
template <class T>
void sum_folded(const T* x, int64_t columns, Range terms, T* y) {
  constexpr int64_t L = Vec<T>::lanes, most = kFoldedColumns;
  int64_t vectors = columns;  // columns x L numbers are `columns` vectors
  for (; vectors % 2 == 0 && vectors / 2 * L % columns == 0 && vectors > 4; vectors /= 2) {
  }
  while (vectors < 4) vectors *= 2;
  Combined<Vec<T>> total[most] = {};
  const int64_t width = vectors * L;
  const T *p = x + terms.begin * columns, *end = x + terms.end * columns;
  while (p < end) {
    Vec<T> a[most] = {};
    for (int64_t i = 0; i < kBlockRows && p < end; ++i, p += width) {
      if (p + width <= end)
        for (int64_t v = 0; v < vectors; ++v) a[v] = a[v] + load(p + v * L);
      else
        for (int64_t v = 0; v < vectors && p + v * L < end; ++v)
          a[v] = a[v] + load_n(p + v * L, min_of(L, end - p - v * L));
    }
    for (int64_t v = 0; v < vectors; ++v) total[v].add(a[v]);
  }
  T sums[most * L];
  for (int64_t v = 0; v < vectors; ++v) {
    total[v].put_away();
    store(sums + v * L, total[v].total);
  }
  for (int64_t c = 0; c < columns; ++c) {
    T s = 0;
    for (int64_t i = c; i < width; i += columns) s += sums[i];
    y[c] = s;
  }
}

// The units [first, beyond) over one range of terms; writes their outputs.
template <class T>
void sum_units(const SumFields& f, const Cut& c, const T* x, int64_t first, int64_t beyond, Range terms,
               T* y) {
  if (c.way == Cut::folded) return sum_folded(x, c.columns_dim, terms, y);
  if (c.way == Cut::rows) {
    Odometer<1> o = walk(f, 0, f.kept);
    o.seek(first);
    for (int64_t unit = first; unit < beyond; ++unit, o.next()) y[unit] = sum_row(f, x + o.offset[0], terms);
    return;
  }
  constexpr int64_t L = Vec<T>::lanes;
  Odometer<1> o = walk(f, 0, f.kept - 1);
  int64_t row = first / c.per_row, tile = first % c.per_row;
  o.seek(row);
  for (int64_t unit = first; unit < beyond; ++unit) {
    const int64_t end = min_of(c.columns_dim, (tile + 1) * c.width);
    T* to = y + row * c.columns_dim;
    const T* from = x + o.offset[0];
    for (int64_t j = tile * c.width; j < end; j += 4 * L) {
      const int64_t left = min_of(end - j, 4 * L);
      if (left > 3 * L)
        sum_columns<T, 4>(f, from + j, terms, to + j, left);
      else if (left > 2 * L)
        sum_columns<T, 3>(f, from + j, terms, to + j, left);
      else if (left > L)
        sum_columns<T, 2>(f, from + j, terms, to + j, left);
      else
        sum_columns<T, 1>(f, from + j, terms, to + j, left);
    }
    if (++tile < c.per_row) continue;
    tile = 0;
    ++row;
    o.next();
  }
}

inline int64_t unit_work(const Cut& c) { return c.width * min_of(c.terms, c.chunk); }

int sum_phases(const int64_t* p) { return cut_of(*reinterpret_cast<const SumFields*>(p)).chunks > 1 ? 2 : 1; }
int64_t sum_tasks(const int64_t* p, int phase) {
  const Cut c = cut_of(*reinterpret_cast<const SumFields*>(p));
  if (phase == 1) return piece_tasks(c.outputs, c.chunks);
  if (c.outputs * c.terms <= kSmall) return 1;
  return c.chunks * ceil_div(c.units, piece_grain(unit_work(c)));
}
template <class T>
int64_t sum_workspace(const int64_t* p) {
  const Cut c = cut_of(*reinterpret_cast<const SumFields*>(p));
  return c.chunks > 1 ? c.chunks * c.outputs * static_cast<int64_t>(sizeof(T)) : 0;
}

// args "x y"
template <class T>
void sum(const Task& t) {
  const auto& f = *reinterpret_cast<const SumFields*>(t.p);
  const Cut c = cut_of(f);
  const T* x = static_cast<const T*>(t.a[0]);
  T* y = static_cast<T*>(t.a[1]);
  const T divisor = static_cast<T>(double_of(f.divisor));
  if (t.phase == 1) {
    const T* parts = static_cast<const T*>(t.workspace);
    constexpr int64_t L = Vec<T>::lanes;
    const Range r = piece_range(c.outputs, c.chunks, t.index);
    for (int64_t j = r.begin; j < r.end; j += L) {
      const int64_t n = min_of(L, r.end - j);
      Combined<Vec<T>> total{};
      for (int64_t k = 0; k < c.chunks; ++k) total.add(load_n(parts + k * c.outputs + j, n));
      total.put_away();
      store_n(y + j, total.total / set1(divisor), n);
    }
    return;
  }
  const bool small = c.outputs * c.terms <= kSmall;
  const int64_t grain = small ? c.units : piece_grain(unit_work(c)),
                groups = small ? 1 : ceil_div(c.units, grain);
  const int64_t chunk = t.index / groups, group = t.index % groups;
  const Range terms{chunk * c.chunk, min_of(c.terms, (chunk + 1) * c.chunk)};
  T* to = c.chunks > 1 ? static_cast<T*>(t.workspace) + chunk * c.outputs : y;
  const int64_t first = group * grain, beyond = min_of(c.units, first + grain);
  if (first >= beyond) return;
  sum_units(f, c, x, first, beyond, terms, to);
  if (c.chunks > 1) return;
  // the outputs of these units, contiguous
  const int64_t begin = first / c.per_row * c.columns_dim + first % c.per_row * c.width;
  const int64_t end = beyond / c.per_row * c.columns_dim + beyond % c.per_row * c.width;
  for (int64_t j = begin; j < min_of(end, c.outputs); ++j) y[j] /= divisor;
}

}  // namespace
}  // namespace cnnmath::CNNMATH_ISA
