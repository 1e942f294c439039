// The register tile under every convolution and matrix product:
//
//   C[m][n] (+)= bias[n] + sum over the blocks b and k < depth of A_b[m][k] B_b[k][n]
//
// for a few rows m and a few vectors of columns n, held in registers through the whole sum. One block is a
// run of k that is regular in memory: a row of a convolution window, a row of pixels, all of k in a matrix
// product. Blocks are given as offsets (in elements) from A's and B's base.
//
// A is read one number at a time, in one of two orientations:
//   rows      A_b[m][k] = a[m][a_offset[b] + k]            m pointers, anywhere
//   columns   A_b[m][k] = a[0][a_offset[b] + k * lda + m]  one pointer
// B is read by vectors: B_b[k][n] = b[b_offset[b] + k * ldb + n]; all nv * lanes columns are read, also
// beyond `columns`. C is given by one pointer a row, and an offset common to all. Two rows of A and C may be
// the same ones: the tile reads all that it adds to before it writes. Of C only the first `columns` columns
// are read and written.
//
// Order of the sum: blocks in order, k in order, then what C held, then the bias, then relu (max(0, x), NaN
// stays). It is the same for every tile size, so a result does not depend on how rows are dealt to tiles.
#pragma once
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

template <class T>
struct TileCall {
  int64_t blocks;
  const int64_t* a_offset;
  const int64_t* b_offset;
  int64_t depth;
  const T* b;
  int64_t ldb;
  int64_t lda;       // columns only
  int64_t c_offset;  // from every pointer of C
  int64_t columns;   // 1 .. nv * lanes
  const T* bias;     // null: none; `columns` numbers
  int64_t accumulate;
  int64_t relu;
};

template <class T>
using TileFn = void (*)(const T* const* a, T* const* c, const TileCall<T>& call);

// One size of tile: m rows by nv vectors.
template <class T>
struct Tile {
  int m;
  TileFn<T> run;
};

constexpr int kTallestTile = 14;
// What a multiply-add in a tile one vector wide takes, in halves of one in a wider tile: there each number of A is spread for one
// multiplication alone, which AVX-512 does as it multiplies.
#if defined(__AVX512F__)
constexpr int kNarrowHalves = 2;
#else
constexpr int kNarrowHalves = 3;
#endif
// Widest tile in vectors.
template <class T>
int tile_max_vectors();

// The tiles nv vectors wide, tallest first, closed by one of a single row.
template <class T>
const Tile<T>* row_tiles(int nv);
template <class T>
const Tile<T>* column_tiles(int nv);

// How m rows are dealt to tiles: the tallest ones first, the last rows by the cheapest sequence. A rows tile
// may cover more rows than are left (the caller repeats the last pointers); a columns tile must fit exactly.
template <class T>
class Deal {
 public:
  Deal(const Tile<T>* tiles, int nv, bool exact) : tiles_(tiles) {
    // Below eight vectors in flight a tile waits for the latency of its sums.
    const auto cost_of = [&](int i) { return (tiles[i].m * nv < 8 ? 8 : tiles[i].m * nv) + 1; };
    int cost[kTable + 1];
    cost[0] = 0;
    limit_ = 2 * tiles[0].m;
    for (int rows = 1; rows <= limit_; ++rows) {
      cost[rows] = 1 << 30;
      for (int i = 0;; ++i) {
        const int m = tiles[i].m;
        if (m <= rows || !exact) {
          const int total = cost_of(i) + (m < rows ? cost[rows - m] : 0);
          if (total < cost[rows]) {
            cost[rows] = total;
            choice_[rows] = static_cast<uint8_t>(i);
          }
        }
        if (m == 1) break;
      }
    }
  }
  const Tile<T>& next(int64_t rows) const { return tiles_[rows > limit_ ? 0 : choice_[rows]]; }

 private:
  static constexpr int kTable = 28;
  const Tile<T>* tiles_;
  int limit_;
  uint8_t choice_[kTable + 1];
};

// Any number of rows, dealt to tiles: a and c have as many pointers, and further ones as far as a tile may reach.
template <class T>
static CNNMATH_INLINE void run_rows(const T* const* a, T* const* c, int64_t rows, const Deal<T>& deal,
                                    const TileCall<T>& call) {
  for (int64_t i = 0; i < rows;) {
    const Tile<T>& tile = deal.next(rows - i);
    tile.run(a + i, c + i, call);
    i += tile.m;
  }
}

// Columns are cut into panels of a few vectors: all of the widest tile, but never a single vector last if it
// can be helped (a tile of one vector is limited by its loads).
template <class T>
struct Panels {
  int64_t n;  // columns
  int64_t count;
  int wide;  // vectors in every panel but the last
  int last;  // vectors in the last
  int64_t width() const { return int64_t{wide} * Vec<T>::lanes; }
  int vectors(int64_t j) const { return j + 1 < count ? wide : last; }
  int64_t begin(int64_t j) const { return j * width(); }
  int64_t columns(int64_t j) const { return j + 1 < count ? width() : n - begin(j); }
  int64_t padded() const { return begin(count - 1) + int64_t{last} * Vec<T>::lanes; }
};

template <class T>
static CNNMATH_INLINE Panels<T> panels_of(int64_t n) {
  const int64_t vectors = (n + Vec<T>::lanes - 1) / Vec<T>::lanes;
  if (vectors <= tile_max_vectors<T>()) return {n, 1, static_cast<int>(vectors), static_cast<int>(vectors)};
  const bool odd = vectors % 2 != 0;
  if (odd && tile_max_vectors<T>() >= 3) return {n, vectors / 2, 2, 3};
  return {n, (vectors + 1) / 2, 2, odd ? 1 : 2};
}

}  // namespace cnnmath::CNNMATH_ISA
