// How the gradient of the weights goes through x: rows of y, and the rows of x that they meet.
#pragma once
#include "kernels/conv/parts.h"
#include "kernels/tile/pack.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

// Columns [lo, hi) of y whose tap j falls inside the map: 0 <= q * sw - pl + j * dw < w.
static inline void columns_inside(const ConvShape& s, int64_t j, int64_t& lo, int64_t& hi) {
  const int64_t shift = s.pl - j * s.dw;
  lo = shift > 0 ? min_of(ceil_div(shift, s.sw), s.ow) : 0;
  hi = s.w + shift > 0 ? min_of(ceil_div(s.w + shift, s.sw), s.ow) : 0;
}

// The blocks of a sum over the rows [r0, r1) of y for tap (i, j), in x and in dy from row r0 on, whose pixels lie dy_pixel apart: their
// number, and in lo and hi the columns of y that they go over. With `at` (where the rows of a padded copy of x start, of `copy_row`
// numbers each) all taps of a row are taken together, and j is 0.
static inline int64_t tap_blocks(const ConvShape& s, int64_t r0, int64_t r1, int64_t i, int64_t j,
                                 const int64_t* at, int64_t copy_row, int64_t dy_pixel, int64_t* x_offset,
                                 int64_t* dy_offset, int64_t& lo, int64_t& hi) {
  lo = 0, hi = s.ow;
  if (!at) columns_inside(s, j, lo, hi);
  int64_t blocks = 0;
  for (int64_t r = r0; r < r1 && lo < hi; ++r) {
    if (at) {
      x_offset[blocks] = at[r - r0] + i * s.dh * copy_row;
    } else {
      const int64_t row = r % s.oh * s.sh - s.pt + i * s.dh;
      if (row < 0 || row >= s.h) continue;
      x_offset[blocks] = ((r / s.oh * s.h + row) * s.w + lo * s.sw - s.pl + j * s.dw) * s.c;
    }
    dy_offset[blocks++] = ((r - r0) * s.ow + lo) * dy_pixel;
  }
  return blocks;
}

// Rows that `copy_rows` writes for `rows` rows of y, at most.
static inline int64_t most_copied_rows(const ConvShape& s, int64_t rows) {
  const int64_t images = (rows + s.oh - 2) / max_of(s.oh, 1) + 1;
  return rows * s.sh + images * ((s.kh - 1) * s.dh + 1);
}

// The padded source rows of rows [from, to) of y, image after image, with `columns` columns of cg channels each; `at` receives
// where each row of y starts.
template <class T>
static void copy_rows(const ConvShape& s, int64_t columns, int64_t cg, const T* x, int64_t channel,
                      int64_t from, int64_t to, T* out, int64_t* at) {
  const int64_t begin = min_of(s.pl, columns), end = max_of(min_of(s.w + s.pl, columns), begin);
  T* const start = out;
  for (int64_t row = from; row < to;) {
    const int64_t image = row / s.oh, first = row % s.oh, last = min_of(first + to - row, s.oh);
    for (int64_t p = first; p < last; ++p)
      at[row - from + p - first] = (out - start) + (p - first) * s.sh * columns * cg;
    for (int64_t r = first * s.sh - s.pt; r <= (last - 1) * s.sh - s.pt + (s.kh - 1) * s.dh;
         ++r, out += columns * cg) {
      if (r < 0 || r >= s.h) {
        zero_run(out, columns * cg);
        continue;
      }
      const T* source = x + ((image * s.h + r) * s.w - s.pl) * s.c + channel;
      zero_run(out, begin * cg);
      if (cg == s.c)
        copy_run(out + begin * cg, source + begin * s.c, (end - begin) * cg);
      else
        for (int64_t q = begin; q < end; ++q) copy_run(out + q * cg, source + q * s.c, cg);
      zero_run(out + end * cg, (columns - end) * cg);
    }
    row += last - first;
  }
}

}  // namespace cnnmath::CNNMATH_ISA
