// Strided copies: by rows, by transposed tiles, or element by element.
#pragma once
#include "kernels/layout/layout.h"
#include "simd/loops.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

// How a copy goes: `last` is the row dimension of y, `across` the dimension along which x is contiguous
// (-1: copy rows of y one by one).
struct Way {
  int last, across;
  int64_t elements;
};
constexpr int64_t kTileSide = 64;

inline Way way_of(const RelayoutFields& f) {
  Way w{static_cast<int>(f.rank) - 1, -1, 1};
  for (int d = 0; d < f.rank; ++d) w.elements *= f.n[d];
  if (w.last < 0 || w.elements == 0 || f.sx[w.last] == 1 || f.sx[w.last] == 0 || f.sy[w.last] != 1) return w;
  for (int d = 0; d < w.last; ++d)
    if (f.sx[d] == 1 && f.n[d] > 1) w.across = d;
  return w;
}
// Tiles of the plane (across, last), kTileSide x kTileSide or as many numbers where one side is short.
inline int64_t side_of(int64_t n, int64_t other) {
  if (n < kTileSide) return n;
  return other < kTileSide ? kTileSide * kTileSide / other : kTileSide;
}
struct Tiles {
  int64_t side_across, side_last, across, last, count;
  Tiles(const RelayoutFields& f, const Way& w) {
    const int64_t a = f.n[w.across], l = f.n[w.last];
    side_across = side_of(a, l);
    side_last = side_of(l, a);
    across = ceil_div(a, side_across);
    last = ceil_div(l, side_last);
    count = w.elements / (a * l) * across * last;
  }
  int64_t size() const { return side_across * side_last; }
};

int64_t relayout_tasks(const int64_t* p, int) {
  const auto& f = *reinterpret_cast<const RelayoutFields*>(p);
  const Way w = way_of(f);
  return w.across < 0 ? piece_tasks(w.elements, 1) : piece_tasks(Tiles(f, w).count, Tiles(f, w).size());
}

// y[j][i] = x[i][j] for side x side elements in registers. The lists of numbers say where each lane comes
// from: interleave neighbours, then pairs, then halves.
template <class E>
struct Block {
  static constexpr int side = 1;
  static CNNMATH_INLINE void transpose(const E* x, int64_t, E* y, int64_t) { *y = *x; }
};
#define CNNMATH_LOAD_ROWS \
  for (int k = 0; k < side; ++k) a[k] = *reinterpret_cast<const U*>(x + k * sx);
#define CNNMATH_STORE_ROW(k, v) *reinterpret_cast<U*>(y + (k) * sy) = v;
#if defined(__AVX2__)
template <>
struct Block<uint32_t> {
  static constexpr int side = 8;
  typedef uint32_t V __attribute__((vector_size(32)));
  typedef uint32_t U __attribute__((vector_size(32), aligned(4)));
  static CNNMATH_INLINE void transpose(const uint32_t* x, int64_t sx, uint32_t* y, int64_t sy) {
    V a[8], b[8];
#pragma GCC unroll 8
    CNNMATH_LOAD_ROWS
#pragma GCC unroll 4
    for (int k = 0; k < 8; k += 2) {
      b[k] = __builtin_shufflevector(a[k], a[k + 1], 0, 8, 1, 9, 4, 12, 5, 13);
      b[k + 1] = __builtin_shufflevector(a[k], a[k + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (int k = 0; k < 8; k += 4) {
      a[k] = __builtin_shufflevector(b[k], b[k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      a[k + 1] = __builtin_shufflevector(b[k], b[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
      a[k + 2] = __builtin_shufflevector(b[k + 1], b[k + 3], 0, 1, 8, 9, 4, 5, 12, 13);
      a[k + 3] = __builtin_shufflevector(b[k + 1], b[k + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      CNNMATH_STORE_ROW(k, __builtin_shufflevector(a[k], a[k + 4], 0, 1, 2, 3, 8, 9, 10, 11))
      CNNMATH_STORE_ROW(k + 4, __builtin_shufflevector(a[k], a[k + 4], 4, 5, 6, 7, 12, 13, 14, 15))
    }
  }
};
template <>
struct Block<uint64_t> {
  static constexpr int side = 4;
  typedef uint64_t V __attribute__((vector_size(32)));
  typedef uint64_t U __attribute__((vector_size(32), aligned(8)));
  static CNNMATH_INLINE void transpose(const uint64_t* x, int64_t sx, uint64_t* y, int64_t sy) {
    V a[4], b[4];
#pragma GCC unroll 4
    CNNMATH_LOAD_ROWS
#pragma GCC unroll 2
    for (int k = 0; k < 4; k += 2) {
      b[k] = __builtin_shufflevector(a[k], a[k + 1], 0, 4, 2, 6);
      b[k + 1] = __builtin_shufflevector(a[k], a[k + 1], 1, 5, 3, 7);
    }
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k) {
      CNNMATH_STORE_ROW(k, __builtin_shufflevector(b[k], b[k + 2], 0, 1, 4, 5))
      CNNMATH_STORE_ROW(k + 2, __builtin_shufflevector(b[k], b[k + 2], 2, 3, 6, 7))
    }
  }
};
#else
template <>
struct Block<uint32_t> {
  static constexpr int side = 4;
  typedef uint32_t V __attribute__((vector_size(16)));
  typedef uint32_t U __attribute__((vector_size(16), aligned(4)));
  static CNNMATH_INLINE void transpose(const uint32_t* x, int64_t sx, uint32_t* y, int64_t sy) {
    V a[4], b[4];
#pragma GCC unroll 4
    CNNMATH_LOAD_ROWS
#pragma GCC unroll 2
    for (int k = 0; k < 4; k += 2) {
      b[k] = __builtin_shufflevector(a[k], a[k + 1], 0, 4, 1, 5);
      b[k + 1] = __builtin_shufflevector(a[k], a[k + 1], 2, 6, 3, 7);
    }
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k) {
      CNNMATH_STORE_ROW(2 * k, __builtin_shufflevector(b[k], b[k + 2], 0, 1, 4, 5))
      CNNMATH_STORE_ROW(2 * k + 1, __builtin_shufflevector(b[k], b[k + 2], 2, 3, 6, 7))
    }
  }
};
template <>
struct Block<uint64_t> {
  static constexpr int side = 2;
  typedef uint64_t V __attribute__((vector_size(16)));
  typedef uint64_t U __attribute__((vector_size(16), aligned(8)));
  static CNNMATH_INLINE void transpose(const uint64_t* x, int64_t sx, uint64_t* y, int64_t sy) {
    V a[2];
#pragma GCC unroll 2
    CNNMATH_LOAD_ROWS
    CNNMATH_STORE_ROW(0, __builtin_shufflevector(a[0], a[1], 0, 2))
    CNNMATH_STORE_ROW(1, __builtin_shufflevector(a[0], a[1], 1, 3))
  }
};
#endif
#undef CNNMATH_LOAD_ROWS
#undef CNNMATH_STORE_ROW

// A few rows: each place of y gets `rows` neighbours. The count is a constant so that the loop is unrolled,
// and where they are all of y (channels of an image) the compiler interleaves whole vectors.
template <class E, int rows>
void interleave(const E* __restrict x, int64_t sx, E* __restrict y, int64_t sy, int64_t columns) {
  if (sy == rows)
    for (int64_t j = 0; j < columns; ++j)
      for (int i = 0; i < rows; ++i) y[j * rows + i] = x[i * sx + j];
  else
    for (int64_t j = 0; j < columns; ++j)
      for (int i = 0; i < rows; ++i) y[j * sy + i] = x[i * sx + j];
}
template <class E, int columns>
void separate(const E* __restrict x, int64_t sx, E* __restrict y, int64_t sy, int64_t rows) {
  if (sx == columns)
    for (int j = 0; j < columns; ++j)
      for (int64_t i = 0; i < rows; ++i) y[j * sy + i] = x[i * columns + j];
  else
    for (int j = 0; j < columns; ++j)
      for (int64_t i = 0; i < rows; ++i) y[j * sy + i] = x[i * sx + j];
}

// y[j·sy + i] = x[i·sx + j] for i < rows, j < columns
template <class E>
void transpose_tile(const E* x, int64_t sx, E* y, int64_t sy, int64_t rows, int64_t columns) {
  if (rows == 2) return interleave<E, 2>(x, sx, y, sy, columns);
  if (rows == 3) return interleave<E, 3>(x, sx, y, sy, columns);
  if (rows == 4) return interleave<E, 4>(x, sx, y, sy, columns);
  if (columns == 2) return separate<E, 2>(x, sx, y, sy, rows);
  if (columns == 3) return separate<E, 3>(x, sx, y, sy, rows);
  if (columns == 4) return separate<E, 4>(x, sx, y, sy, rows);
  constexpr int64_t side = Block<E>::side;
  constexpr int64_t line =
      max_of(side, 64 / static_cast<int64_t>(sizeof(E)));  // use up a cache line of x at a time
  const int64_t full_rows = rows / side * side, full_columns = columns / side * side;
  for (int64_t j0 = 0; j0 < full_columns; j0 += line)
    for (int64_t i = 0; i < full_rows; i += side)
      for (int64_t j = j0; j < min_of(j0 + line, full_columns); j += side)
        Block<E>::transpose(x + i * sx + j, sx, y + j * sy + i, sy);
  for (int64_t i = 0; i < full_rows; ++i)
    for (int64_t j = full_columns; j < columns; ++j) y[j * sy + i] = x[i * sx + j];
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = full_rows; i < rows; ++i) y[j * sy + i] = x[i * sx + j];
}

// Rows are often too short for the call of memcpy to pay.
template <class E>
CNNMATH_INLINE void copy_dense(const E* x, E* y, int64_t n) {
  typedef E U __attribute__((vector_size(32), aligned(sizeof(E))));
  constexpr int64_t step = 32 / static_cast<int64_t>(sizeof(E));
  if (n > 32 * step) {
    __builtin_memcpy(y, x, static_cast<size_t>(n) * sizeof(E));
    return;
  }
  int64_t i = 0;
  for (; i + step <= n; i += step) *reinterpret_cast<U*>(y + i) = *reinterpret_cast<const U*>(x + i);
#pragma GCC unroll 1
  for (; i < n; ++i) {
    __asm__ volatile("" ::: "memory");  // or it becomes a call again
    y[i] = x[i];
  }
}

template <class E>
void copy_row(const E* x, int64_t sx, E* y, int64_t sy, int64_t n) {
  if (sx == 1 && sy == 1) {
    copy_dense(x, y, n);
  } else if (sx == 0 && sy == 1) {
    const E value = *x;
    for (int64_t i = 0; i < n; ++i) y[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * sy] = x[i * sx];
  }
}

template <class E>
void relayout_rows(const RelayoutFields& f, const Way& w, const E* x, E* y, Range r) {
  const int last = w.last;
  const int64_t n = last < 0 ? 1 : f.n[last], sx = last < 0 ? 1 : f.sx[last], sy = last < 0 ? 1 : f.sy[last];
  Odometer<2> o;
  o.rank = last < 0 ? 0 : last;
  for (int d = 0; d < last; ++d) o.size[d] = f.n[d], o.stride[0][d] = f.sx[d], o.stride[1][d] = f.sy[d];
  o.seek(r.begin / n);
  int64_t column = r.begin % n;
  for (int64_t i = r.begin; i < r.end;) {
    const int64_t count = min_of(n - column, r.end - i);
    copy_row(x + o.offset[0] + column * sx, sx, y + o.offset[1] + column * sy, sy, count);
    i += count;
    column = 0;
    o.next();
  }
}

template <class E>
void relayout_tiles(const RelayoutFields& f, const Way& w, const E* x, E* y, Range r) {
  const Tiles tiles(f, w);
  Odometer<2> o;
  o.rank = 0;
  for (int d = 0; d < w.last; ++d) {
    if (d == w.across) continue;
    o.size[o.rank] = f.n[d], o.stride[0][o.rank] = f.sx[d], o.stride[1][o.rank] = f.sy[d];
    ++o.rank;
  }
  const int64_t sx = f.sx[w.last], sy = f.sy[w.across];
  for (int64_t tile = r.begin; tile < r.end; ++tile) {
    const int64_t j = tile % tiles.across * tiles.side_across;
    const int64_t i = tile / tiles.across % tiles.last * tiles.side_last;
    o.seek(tile / (tiles.across * tiles.last));
    transpose_tile(x + o.offset[0] + i * sx + j, sx, y + o.offset[1] + j * sy + i, sy,
                   min_of(tiles.side_last, f.n[w.last] - i), min_of(tiles.side_across, f.n[w.across] - j));
  }
}

// args "x y"
template <class E>
void relayout(const Task& t) {
  const auto& f = *reinterpret_cast<const RelayoutFields*>(t.p);
  const Way w = way_of(f);
  if (w.elements == 0) return;
  const E* x = static_cast<const E*>(t.a[0]) + f.x0;
  E* y = static_cast<E*>(t.a[1]) + f.y0;
  if (w.across < 0)
    relayout_rows(f, w, x, y, piece_range(w.elements, 1, t.index));
  else
    relayout_tiles(f, w, x, y, piece_range(Tiles(f, w).count, Tiles(f, w).size(), t.index));
}

}  // namespace
}  // namespace cnnmath::CNNMATH_ISA
