// The transforms of Winograd's F(4x4, 3x3), in one dimension, on vectors of channels. In two dimensions they are applied to
// columns, then to rows. Points 0, 1, -1, 1/2, -2, infinity: B^T holds the coefficients of the products over the other points, A^T the
// powers of the points, G the powers over what the products are at their point.
#pragma once
#include "kernels/conv/reading.h"
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

//        [ 1  -3/2  -2   3/2   1   0 ]
//        [ 0   -1   1/2  5/2   1   0 ]
//  B^T = [ 0    1  -5/2  1/2   1   0 ]
//        [ 0   -2   -1    2    1   0 ]
//        [ 0   1/2  -1  -1/2   1   0 ]
//        [ 0    1  -3/2  -2   3/2  1 ]
template <class T>
static CNNMATH_INLINE void winograd_input(const Vec<T> (&d)[6], Vec<T> (&v)[6]) {
  const Vec<T> half3 = set1<T>(T(1.5)), two = set1<T>(T(2)), half = set1<T>(T(0.5));
  const Vec<T> a = d[4] - d[2], b = d[3] - d[1];
  v[0] = fma(half3, b, (d[0] - d[2]) + a);
  v[1] = fma(half3, d[2] + d[3], a + b);
  v[2] = fma(half3, d[3] - d[2], a - b);
  v[3] = fma(two, b, a);
  v[4] = fnma(half, b, a);
  v[5] = fma(half3, a, (d[5] - d[3]) - b);
}

// B^T in numbers, for a row by itself.
constexpr float kWinogradInput[6][6] = {{1, -1.5f, -2, 1.5f, 1, 0}, {0, -1, 0.5f, 2.5f, 1, 0},
                                        {0, 1, -2.5f, 0.5f, 1, 0},  {0, -2, -1, 2, 1, 0},
                                        {0, 0.5f, -1, -0.5f, 1, 0}, {0, 1, -1.5f, -2, 1.5f, 1}};

//        [ 1  1  1   1   1  0 ]
//  A^T = [ 0  1 -1  1/2 -2  0 ]
//        [ 0  1  1  1/4  4  0 ]
//        [ 0  1 -1  1/8 -8  1 ]
template <class T>
static CNNMATH_INLINE void winograd_output(const Vec<T> (&m)[6], Vec<T> (&y)[4]) {
  const Vec<T> sum = m[1] + m[2], difference = m[1] - m[2];
  y[0] = (m[0] + sum) + (m[3] + m[4]);
  y[1] = fma(set1<T>(T(0.5)), m[3], fnma(set1<T>(T(2)), m[4], difference));
  y[2] = fma(set1<T>(T(0.25)), m[3], fma(set1<T>(T(4)), m[4], sum));
  y[3] = fma(set1<T>(T(0.125)), m[3], fnma(set1<T>(T(8)), m[4], difference)) + m[5];
}

// A in numbers, for a row by itself.
constexpr float kWinogradOutputBack[6][4] = {
    {1, 0, 0, 0}, {1, 1, 1, 1}, {1, -1, 1, -1}, {1, 0.5f, 0.25f, 0.125f}, {1, -2, 4, -8}, {0, 0, 0, 1}};

// A: the transform of a gradient that comes back through A^T.
template <class T>
static CNNMATH_INLINE void winograd_output_back(const Vec<T> (&y)[4], Vec<T> (&m)[6]) {
  const Vec<T> even = y[0] + y[2], odd = y[1] + y[3];
  m[0] = y[0];
  m[1] = even + odd;
  m[2] = even - odd;
  m[3] = fma(set1<T>(T(0.125)), y[3], fma(set1<T>(T(0.25)), y[2], fma(set1<T>(T(0.5)), y[1], y[0])));
  m[4] = fnma(set1<T>(T(8)), y[3], fma(set1<T>(T(4)), y[2], fnma(set1<T>(T(2)), y[1], y[0])));
  m[5] = y[3];
}

//       [   1      0      0   ]
//       [  1/3    1/3    1/3  ]
//   G = [ -1/3    1/3   -1/3  ]
//       [-16/15  -8/15  -4/15 ]
//       [  1/15  -2/15   4/15 ]
//       [   0      0      1   ]
template <class T>
static CNNMATH_INLINE void winograd_weights(const Vec<T> (&g)[3], Vec<T> (&u)[6]) {
  const Vec<T> third = set1<T>(T(1) / 3), fifteenth = set1<T>(T(1) / 15);
  const Vec<T> outer = g[0] + g[2];
  u[0] = g[0];
  u[1] = (outer + g[1]) * third;
  u[2] = (g[1] - outer) * third;
  u[3] = fma(set1<T>(T(4)), g[2], fma(set1<T>(T(8)), g[1], set1<T>(T(16)) * g[0])) * (-fifteenth);
  u[4] = fma(set1<T>(T(4)), g[2], fnma(set1<T>(T(2)), g[1], g[0])) * fifteenth;
  u[5] = g[2];
}

// G^T: back to the gradient of the weights.
template <class T>
static CNNMATH_INLINE void winograd_weights_back(const Vec<T> (&u)[6], Vec<T> (&g)[3]) {
  const Vec<T> third = set1<T>(T(1) / 3), fifteenth = set1<T>(T(1) / 15);
  const Vec<T> difference = u[1] - u[2], sum = u[1] + u[2];
  g[0] = fma(third, difference, fma(fifteenth, fnma(set1<T>(T(16)), u[3], u[4]), u[0]));
  g[1] = fma(third, sum, fifteenth * (-(fma(set1<T>(T(8)), u[3], set1<T>(T(2)) * u[4]))));
  g[2] = fma(third, difference, fma(fifteenth, set1<T>(T(4)) * (u[4] - u[3]), u[5]));
}

// An image's map in memory: [h][w][c].
struct WinogradMap {
  const float* base;
  int64_t h, w, c;
};

// Where the N x N pixels from (row, column) on begin; `zeros` stands for those outside the map.
template <int N>
static CNNMATH_INLINE void winograd_pixels(const WinogradMap& map, int64_t row, int64_t column,
                                           const float* zeros, const float* (&pixel)[N][N]) {
  const float* at = map.base + (row * map.w + column) * map.c;
  const int64_t line = map.w * map.c;
  bool inside[N];
#pragma GCC unroll 6
  for (int64_t j = 0; j < N; ++j) inside[j] = column + j >= 0 && column + j < map.w;
#pragma GCC unroll 6
  for (int64_t i = 0; i < N; ++i, at += line) {
    const bool exists = row + i >= 0 && row + i < map.h;
#pragma GCC unroll 6
    for (int64_t j = 0; j < N; ++j) pixel[i][j] = exists && inside[j] ? at + j * map.c : zeros;
  }
}

// n channels of them, from k on: a whole vector or less.
template <int N>
static CNNMATH_INLINE void winograd_load(const float* const (&pixel)[N][N], int64_t k, int64_t n,
                                         Vec<float> (&to)[N][N]) {
  if (n >= Vec<float>::lanes) {
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < N; ++j) to[i][j] = load(pixel[i][j] + k);
  } else {
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < N; ++j) to[i][j] = load_n(pixel[i][j] + k, n);
  }
}

// The same of max(0, normalised pixels); those outside the map are zeros behind the normalisation.
template <int N>
static CNNMATH_INLINE void winograd_load_normed(const float* const (&pixel)[N][N], const float* zeros,
                                                const float* norm, int64_t c, int64_t k, int64_t n,
                                                Vec<float> (&to)[N][N]) {
  const int64_t lanes = n < Vec<float>::lanes ? n : Vec<float>::lanes;
  const Affine<float> affine = affine_at(norm, c, k, lanes);
  const bool inside = pixel[0][0] != zeros && pixel[0][N - 1] != zeros && pixel[N - 1][0] != zeros &&
                      pixel[N - 1][N - 1] != zeros;
  if (inside && lanes == Vec<float>::lanes) {
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < N; ++j) to[i][j] = affine.relu_of(load(pixel[i][j] + k));
  } else {
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < N; ++j)
        to[i][j] = pixel[i][j] == zeros ? zero<float>() : affine.relu_of(load_n(pixel[i][j] + k, lanes));
  }
}

// The same of a gradient that comes through a max-pool (Reading::codes): where the windows lie that hold some of the N x N pixels
// from (row, column) on, null where there is none. OddRow and OddColumn say which of these two are odd.
template <int N, bool OddRow, bool OddColumn>
struct WinogradWindows {
  static constexpr int rows = (N + OddRow + 1) / 2, columns = (N + OddColumn + 1) / 2;
  const float* maxima[rows][columns];
  const uint8_t* codes[rows][columns];

  // Of an image's map of h x w pixels.
  WinogradWindows(const float* base, const uint8_t* image_codes, int64_t h, int64_t w, int64_t c, int64_t row,
                  int64_t column) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t p = (row - OddRow) / 2 + i, q = (column - OddColumn) / 2 + j;
        const int64_t at = (p * (w / 2) + q) * c;
        const bool inside = p >= 0 && p < h / 2 && q >= 0 && q < w / 2;
        maxima[i][j] = inside ? base + at : nullptr;
        codes[i][j] = inside ? image_codes + at : nullptr;
      }
    }
  }

  CNNMATH_INLINE void load(int64_t k, int64_t n, Vec<float> (&to)[N][N]) const {
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < columns; ++j) {
        Vec<float> v = zero<float>();
        Int<float> place = zero_int<float>();
        if (maxima[i][j]) {
          v = load_n(maxima[i][j] + k, n < Vec<float>::lanes ? n : Vec<float>::lanes);
          place = load_u8<float>(codes[i][j] + k);
        }
#pragma GCC unroll 4
        for (int at = 0; at < 4; ++at) {
          const int y = 2 * i + at / 2 - OddRow, x = 2 * j + at % 2 - OddColumn;
          if (y >= 0 && y < N && x >= 0 && x < N)
            to[y][x] = select(eq(place, set1_int<float>(at)), v, zero<float>());
        }
      }
    }
  }
};

// Each column by itself. `transform` maps In vectors to Out.
template <int In, int Out, class T, class F>
static CNNMATH_INLINE void winograd_columns(const Vec<T> (&from)[In][In], Vec<T> (&half)[Out][In],
                                            F transform) {
#pragma GCC unroll 6
  for (int q = 0; q < In; ++q) {
    Vec<T> column[In], out[Out];
#pragma GCC unroll 6
    for (int i = 0; i < In; ++i) column[i] = from[i][q];
    transform(column, out);
#pragma GCC unroll 6
    for (int i = 0; i < Out; ++i) half[i][q] = out[i];
  }
}

// In two dimensions: columns, then rows [row0, row0 + rows) one by one, each given to put(row, its numbers). Unrolled, they would spill
// numbers that are stored once anyway.
template <int In, int Out, class F, class Put>
static CNNMATH_INLINE void winograd_by_rows(const Vec<float> (&from)[In][In], int64_t row0, int64_t rows,
                                            F transform, Put put) {
  Vec<float> half[Out][In];
  winograd_columns(from, half, transform);
#pragma GCC unroll 1
  for (int64_t i = row0; i < row0 + rows; ++i) {
    Vec<float> out[Out];
    transform(half[i], out);
    put(i - row0, out);
  }
}

// The same with all rows at hand. `transform` maps In vectors to Out.
template <int In, int Out, class T, class F>
static CNNMATH_INLINE void winograd_both(Vec<T> (&from)[In][In], Vec<T> (&to)[Out][Out], F transform) {
  Vec<T> half[Out][In];
  winograd_columns(from, half, transform);
#pragma GCC unroll 6
  for (int i = 0; i < Out; ++i) transform(half[i], to[i]);
}

}  // namespace cnnmath::CNNMATH_ISA
