// float32 products on a matrix unit that multiplies bfloat16 (AMX).
//
// A float32 number is the sum of three bfloat16 numbers, exactly: x = hi + mid + lo, each the rest of the one before
// rounded to 8 bits. Of the nine products of two such sums the unit adds up six, in float32,
//
//   a b = al bh + ah bl + am bm + am bh + ah bm + ah bh   (+ am bl + al bm + al bl, below 2^-25 |a b|: left out)
//
// so a sum is as good as one of float32 products: its error is that of adding up, in float32. What differs: numbers and
// products below 2^-110 lose bits of their lower parts (what is below 2^-126 counts as 0); ah bh may overflow where a b
// does not quite; and an infinity, a NaN or a number that rounds to an infinity would spoil its whole row or column
// (infinity times a part that is 0), which is why packing looks out for them and the callers compute such rows and
// columns number by number. (split_lines does not: what they spoil is NaN, and its callers look out for that.)
//
// The unit takes tiles of 1 KiB. A: 16 rows of 32 k. B: 16 pairs of k, each 16 columns of two numbers. So one block of
// k is 32 long; the three parts (planes) of a tile lie one behind the other, from hi to lo.
#pragma once
#include "simd/vec.h"

#if defined(__AMX_BF16__)
namespace cnnmath::CNNMATH_ISA {

constexpr int64_t kSplitDepth = 32;              // k in a block
constexpr int64_t kSplitLanes = 16;              // rows of A and columns of B in a tile
constexpr int64_t kSplitNumbers = 256;           // float32 of C in a tile
constexpr int64_t kSplitTile = 1024;             // bytes
constexpr int64_t kSplitBlock = 3 * kSplitTile;  // the planes of one tile

// How a matrix lies: element (i, k) is from[i * step + k], or from[k * step + i].
enum class Lie { along_k, along_i };

// Which numbers of k stand in a pair: 2 q and 2 q + 1, or q and q + 16. The latter takes fewer shuffles; A and B must agree.
enum class Pairs { neighbours, apart };

// One tile, all planes, from `lanes` <= 16 rows of A (or columns of B) and `depth` <= 32 numbers of k; zeros beyond.
// Gives the lanes that hold a number that cannot be split, as bits. A's pairs are those apart.
uint32_t split_a(char* to, const float* from, Lie lie, int64_t step, int64_t lanes, int64_t depth);
uint32_t split_b(char* to, const float* from, Lie lie, int64_t step, int64_t lanes, int64_t depth,
                 Pairs pairs);

// `runs` runs of n numbers, each `step` behind the one before, with zeros up to `padded` one behind the other into planes `plane` numbers apart. Tells
// whether there was a number that cannot be split or a NaN: its parts are 0.
bool split_runs(uint16_t* to, int64_t plane, const float* from, int64_t runs, int64_t step, int64_t n,
                int64_t padded);

// Lines of tiles, `step` bytes from one to the next, their planes kSplitTile apart: a row of A each, 32 numbers of k; or of B, 16 columns
// of one k and 16 of another. Pairs are those apart.
void split_lines(char* to, int64_t step, const float* from, int64_t lines);

// Pixels as k: `lanes` <= 16 channels of each of 2 * pairs pixels (null stands for zeros) and, for `odd`, of one more. Gives the
// channels that hold a number that cannot be split, or a NaN, as bits.
//
// As rows of A, 32 pixels: `row` numbers from channel to channel, `plane` from plane to plane.
uint32_t split_pixels_a(uint16_t* to, int64_t row, int64_t plane, const float* const* pixels, int64_t lanes);
// As rows of B, a pair each, `plane` bytes from plane to plane: pixels 0 and 1, 2 and 3, ... to `even`, 1 and 2, 3 and 4, ... to
// `odd`. (A distance of any number of pixels is then a distance of rows in one of them.)
uint32_t split_pixels_b(char* even, char* odd, int64_t plane, const float* const* pixels, int64_t pairs,
                        int64_t lanes);

constexpr float kSplitLimit = 0x1.ffp127f;  // from here on numbers round to infinity
static CNNMATH_INLINE bool splits(float x) { return x < kSplitLimit && x > -kSplitLimit; }

// C[i][j] (+)= sum over blocks b of A_b B_b for 16 * ma rows and 16 * nb columns.
struct SplitCall {
  int64_t blocks;
  const int64_t* a_offset;  // bytes, of each block
  int64_t a_row, a_plane;   // bytes from row to row, from plane to plane
  const char* b;
  const int64_t* b_offset;  // bytes, of each block
  int64_t b_tile, b_plane;  // bytes from tile to tile, from plane to plane
  bool accumulate;
  int64_t c_row = 64, c_tile = kSplitTile;  // bytes from row to row, from tile to tile
};
// a: the first row of each tile of rows. c: where the tiles of C of these rows lie.
// ma, nb: 1 or 2.
using SplitFn = void (*)(const char* const* a, float* const* c, const SplitCall& call);
SplitFn split_tile(int ma, int nb);

// The unit's state for the tiles above, in this thread, while it lives.
class SplitUnit {
 public:
  SplitUnit();
  ~SplitUnit();
  SplitUnit(const SplitUnit&) = delete;
};

}  // namespace cnnmath::CNNMATH_ISA
#endif
