#include "kernels/tile/split.h"

#if defined(__AMX_BF16__)
namespace cnnmath::CNNMATH_ISA {

namespace {

// The intrinsics of the unit are opaque to the compiler, memory included.
CNNMATH_INLINE void memory_fence() { asm volatile("" ::: "memory"); }

struct Parts {
  __m512i hi, mid, lo;  // float32 whose lower 16 bits are 0
};

// To the nearest of 8 bits, half away from zero; the rest is exact.
CNNMATH_INLINE __m512i rounded(__m512i x) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  return _mm512_and_si512(_mm512_add_epi32(x, half), upper);
}
CNNMATH_INLINE __m512i rest(__m512i x, __m512i part) {
  return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(part)));
}
CNNMATH_INLINE Parts parts_of(__m512i x) {
  Parts p;
  p.hi = rounded(x);
  const __m512i r = rest(x, p.hi);
  p.mid = rounded(r);
  p.lo = rest(r, p.mid);
  return p;
}

// Lanes whose hi is infinite. (A NaN does as it should: one of its parts is NaN.)
CNNMATH_INLINE __mmask16 wild(__m512i x) {
  const __m512i least = _mm512_set1_epi32(0x7f7f8000), infinity = _mm512_set1_epi32(0x7f800000);
  const __m512i above = _mm512_sub_epi32(_mm512_and_si512(x, _mm512_set1_epi32(0x7fffffff)), least);
  return _mm512_cmple_epu32_mask(above, _mm512_sub_epi32(infinity, least));
}

CNNMATH_INLINE __mmask16 wild_or_nan(__m512i x) {
  return _mm512_cmpge_epu32_mask(_mm512_and_si512(x, _mm512_set1_epi32(0x7fffffff)),
                                 _mm512_set1_epi32(0x7f7f8000));
}

// Upper halves of two vectors: pairs along the lanes, or lane by lane.
CNNMATH_INLINE __m512i along(__m512i a, __m512i b) {
  const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29,
                                       27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_permutex2var_epi16(a, odd, b);
}
CNNMATH_INLINE __m512i across(__m512i a, __m512i b) {
  typedef uint32_t Unsigned __attribute__((vector_size(64)));
  return _mm512_or_si512((__m512i)((Unsigned)a >> 16),
                         _mm512_and_si512(b, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

CNNMATH_INLINE __m512i load_all(const float* p) { return _mm512_loadu_si512(p); }
CNNMATH_INLINE __m512i load_bits(const float* p, int64_t n) { return (__m512i)load_n(p, n).r; }

// to[i] holds from[l * step + i] in lane l. Quarters of rows go side by side as they are loaded, which leaves squares of four.
CNNMATH_INLINE void turned(const float* from, int64_t step, __m512i* to) {
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    __m512 row[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const float* p = from + j * step + 4 * c;
      row[j] = _mm512_castps128_ps512(_mm_loadu_ps(p));
      row[j] = _mm512_insertf32x4(row[j], _mm_loadu_ps(p + 4 * step), 1);
      row[j] = _mm512_insertf32x4(row[j], _mm_loadu_ps(p + 8 * step), 2);
      row[j] = _mm512_insertf32x4(row[j], _mm_loadu_ps(p + 12 * step), 3);
    }
    // Within each quarter: numbers of two rows in turn, then pairs of them.
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOW_PAIRS(a, b) __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#define HIGH_PAIRS(a, b) __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
    const __m512d low01 = (__m512d)LOW(row[0], row[1]), high01 = (__m512d)HIGH(row[0], row[1]),
                  low23 = (__m512d)LOW(row[2], row[3]), high23 = (__m512d)HIGH(row[2], row[3]);
    to[4 * c] = (__m512i)LOW_PAIRS(low01, low23);
    to[4 * c + 1] = (__m512i)HIGH_PAIRS(low01, low23);
    to[4 * c + 2] = (__m512i)LOW_PAIRS(high01, high23);
    to[4 * c + 3] = (__m512i)HIGH_PAIRS(high01, high23);
#undef LOW
#undef HIGH
#undef LOW_PAIRS
#undef HIGH_PAIRS
  }
}

// All planes of a tile from its 16 rows: row(q, x, y) gives the two vectors whose numbers meet in the pairs of row q. Gives what
// cannot be split: the rows with `Rows`, else the lanes.
template <bool Rows, class F>
CNNMATH_INLINE uint32_t split_rows(char* to, F row) {
  __m512 most = _mm512_setzero_ps(), most2 = most;
  const auto larger = [](__m512 a, __m512i x) {  // of the magnitudes; a NaN counts for nothing
    return _mm512_range_ps(a, _mm512_castsi512_ps(x), 0xb);
  };
  for (int q = 0; q < 16; ++q, to += 64) {
    __m512i x, y;
    row(q, x, y);
    const Parts a = parts_of(x), b = parts_of(y);
    _mm512_storeu_si512(to, across(a.hi, b.hi));
    _mm512_storeu_si512(to + kSplitTile, across(a.mid, b.mid));
    _mm512_storeu_si512(to + 2 * kSplitTile, across(a.lo, b.lo));
    most = larger(most, x);
    most2 = larger(most2, y);
  }
  const uint32_t found =
      _mm512_cmp_ps_mask(larger(most, _mm512_castps_si512(most2)), _mm512_set1_ps(kSplitLimit), _CMP_GE_OQ);
  if (!Rows || found == 0) return found;
  uint32_t rows = 0;
  for (int q = 0; q < 16; ++q) {
    __m512i x, y;
    row(q, x, y);
    rows |= static_cast<uint32_t>((wild(x) | wild(y)) != 0) << q;
  }
  return rows;
}

// Rows that are shorter or fewer than a whole tile has: copied, with zeros behind.
struct Whole {
  alignas(64) float numbers[512];
  const float* from;
  int64_t step;
  Whole(const float* given, Lie lie, int64_t given_step, int64_t lanes, int64_t depth)
      : from(given), step(given_step) {
    if (lanes >= kSplitLanes && depth >= kSplitDepth) return;
    const int64_t rows = lie == Lie::along_k ? lanes : depth, length = lie == Lie::along_k ? depth : lanes;
    const int64_t line = lie == Lie::along_k ? kSplitDepth : kSplitLanes;
    for (int64_t r = 0; r < 512 / line; ++r)
      for (int64_t i = 0; i < line; i += 16)
        _mm512_storeu_si512(numbers + r * line + i,
                            r < rows && i < length ? load_bits(given + r * given_step + i, min_16(length - i))
                                                   : _mm512_setzero_si512());
    from = numbers;
    step = line;
  }
  Whole(const Whole&) = delete;
  static int64_t min_16(int64_t n) { return n < 16 ? n : 16; }
};

}  // namespace

uint32_t split_a(char* to, const float* given, Lie lie, int64_t given_step, int64_t lanes, int64_t depth) {
  const Whole whole(given, lie, given_step, lanes, depth);
  const float* from = whole.from;
  const int64_t step = whole.step;
  if (lie == Lie::along_k)
    return split_rows<true>(to, [&](int q, __m512i& x, __m512i& y) __attribute__((always_inline)) {
      x = load_all(from + q * step);
      y = load_all(from + q * step + 16);
    });
  __m512i numbers[32];
  turned(from, step, numbers);
  turned(from + 16 * step, step, numbers + 16);
  return split_rows<true>(to, [&](int q, __m512i& x, __m512i& y) __attribute__((always_inline)) {
    x = numbers[q];
    y = numbers[16 + q];
  });
}

uint32_t split_b(char* to, const float* given, Lie lie, int64_t given_step, int64_t lanes, int64_t depth,
                 Pairs pairs) {
  const Whole whole(given, lie, given_step, lanes, depth);
  const float* from = whole.from;
  const int64_t step = whole.step, along = pairs == Pairs::neighbours ? 2 : 1,
                other = pairs == Pairs::neighbours ? 1 : 16;
  if (lie == Lie::along_i)
    return split_rows<false>(to, [&](int q, __m512i& x, __m512i& y) __attribute__((always_inline)) {
      x = load_all(from + q * along * step);
      y = load_all(from + (q * along + other) * step);
    });
  __m512i numbers[32];
  turned(from, step, numbers);
  turned(from + 16, step, numbers + 16);
  return split_rows<false>(to, [&](int q, __m512i& x, __m512i& y) __attribute__((always_inline)) {
    x = numbers[q * along];
    y = numbers[q * along + other];
  });
}

void split_lines(char* to, int64_t step, const float* from, int64_t lines) {
  for (int64_t i = 0; i < lines; ++i, from += kSplitDepth, to += step) {
    const Parts a = parts_of(load_all(from)), b = parts_of(load_all(from + 16));
    _mm512_storeu_si512(to, across(a.hi, b.hi));
    _mm512_storeu_si512(to + kSplitTile, across(a.mid, b.mid));
    _mm512_storeu_si512(to + 2 * kSplitTile, across(a.lo, b.lo));
  }
}

namespace {

// 32 numbers, of which the first n count.
CNNMATH_INLINE bool split_32(uint16_t* to, int64_t plane, __m512i x, __m512i y, __mmask32 n) {
  const __mmask16 wild_x = wild_or_nan(x), wild_y = wild_or_nan(y);
  const bool found = (wild_x | wild_y) != 0;
  if (found) {
    x = _mm512_maskz_mov_epi32(static_cast<__mmask16>(~wild_x), x);
    y = _mm512_maskz_mov_epi32(static_cast<__mmask16>(~wild_y), y);
  }
  const Parts a = parts_of(x), b = parts_of(y);
  const __m512i parts[3] = {along(a.hi, b.hi), along(a.mid, b.mid), along(a.lo, b.lo)};
  for (int p = 0; p < 3; ++p, to += plane) {
    if (n == ~__mmask32{0})
      _mm512_storeu_si512(to, parts[p]);
    else
      _mm512_mask_storeu_epi16(to, n, parts[p]);
  }
  return found;
}

}  // namespace

uint32_t split_pixels_b(char* even, char* odd, int64_t plane, const float* const* pixels, int64_t pairs,
                        int64_t lanes) {
  __mmask16 found = 0;
  const auto part = [&](int64_t i) {
    const __m512i x = pixels[i] ? load_bits(pixels[i], lanes) : _mm512_setzero_si512();
    found |= wild_or_nan(x);
    return parts_of(x);
  };
  const auto put = [&](char* to, const Parts& a, const Parts& b) {
    _mm512_storeu_si512(to, across(a.hi, b.hi));
    _mm512_storeu_si512(to + plane, across(a.mid, b.mid));
    _mm512_storeu_si512(to + 2 * plane, across(a.lo, b.lo));
  };
  Parts a = part(0);
  for (int64_t q = 0; q < pairs; ++q, even += 64) {
    const Parts b = part(2 * q + 1);
    put(even, a, b);
    if (!odd) {
      if (q + 1 < pairs) a = part(2 * q + 2);
      continue;
    }
    a = part(2 * q + 2);
    put(odd + 64 * q, b, a);
  }
  return found;
}

uint32_t split_pixels_a(uint16_t* to, int64_t row, int64_t plane, const float* const* pixels, int64_t lanes) {
  alignas(64) char tile[kSplitBlock];
  const uint32_t found = split_pixels_b(tile, nullptr, kSplitTile, pixels, kSplitDepth / 2, lanes);
  for (int p = 0; p < 3; ++p) {
    Vec<float> square[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      square[i] = load(reinterpret_cast<const float*>(tile + p * kSplitTile) + 16 * i);
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store(reinterpret_cast<float*>(to + p * plane + i * row), square[i]);
  }
  return found;
}

bool split_runs(uint16_t* to, int64_t plane, const float* from, int64_t runs, int64_t step, int64_t n,
                int64_t padded) {
  bool found = false;
  const int64_t whole = n / 32 * 32, left = n - whole;
  const auto mask_of = [](int64_t k) {
    return k >= 32 ? ~__mmask32{0} : (__mmask32{1} << (k > 0 ? k : 0)) - 1;
  };
  const __mmask32 valid = mask_of(left), written = mask_of(padded - whole);
  const __mmask16 valid_x = static_cast<__mmask16>(valid), valid_y = static_cast<__mmask16>(valid >> 16);
  for (int64_t r = 0; r < runs; ++r, from += step, to += padded) {
    int64_t i = 0;
    for (; i < whole; i += 32)
      found |= split_32(to + i, plane, load_all(from + i), load_all(from + i + 16), ~__mmask32{0});
    if (i >= padded) continue;
    const __m512i x = _mm512_maskz_loadu_epi32(valid_x, from + i),
                  y = _mm512_maskz_loadu_epi32(valid_y, from + i + 16);
    found |= split_32(to + i, plane, x, y, written);
  }
  return found;
}

namespace {

// Registers: 0 to 3 hold C; the rest A and B, a plane at a time. The small products come first.
#define A2(plane)                                                 \
  _tile_loadd(4, a[0] + at + (plane) * call.a_plane, call.a_row); \
  _tile_loadd(5, a[1] + at + (plane) * call.a_plane, call.a_row)
#define A1(plane) _tile_loadd(4, a[0] + at + (plane) * call.a_plane, call.a_row)
#define B2(plane)                                 \
  _tile_loadd(6, b + (plane) * call.b_plane, 64); \
  _tile_loadd(7, b + (plane) * call.b_plane + call.b_tile, 64)
#define B1(plane) _tile_loadd(6, b + (plane) * call.b_plane, 64)
#define TIMES22            \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7)
#define TIMES21            \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(2, 5, 6)
#define TIMES12            \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7)
#define TIMES11 _tile_dpbf16ps(0, 4, 6)
#define PRODUCTS(A, B, TIMES) \
  A(0);                       \
  B(2);                       \
  TIMES;                      \
  B(1);                       \
  TIMES;                      \
  A(1);                       \
  TIMES;                      \
  B(0);                       \
  TIMES;                      \
  A(2);                       \
  TIMES;                      \
  A(0);                       \
  TIMES
#define BLOCKS(A, B, TIMES)                               \
  for (int64_t block = 0; block < call.blocks; ++block) { \
    const int64_t at = call.a_offset[block];              \
    const char* b = call.b + call.b_offset[block];        \
    PRODUCTS(A, B, TIMES);                                \
  }

CNNMATH_INLINE char* second(float* c, const SplitCall& call) {
  return reinterpret_cast<char*>(c) + call.c_tile;
}

void tile22(const char* const* a, float* const* c, const SplitCall& call) {
  memory_fence();
  if (call.accumulate) {
    _tile_loadd(0, c[0], call.c_row);
    _tile_loadd(1, second(c[0], call), call.c_row);
    _tile_loadd(2, c[1], call.c_row);
    _tile_loadd(3, second(c[1], call), call.c_row);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  BLOCKS(A2, B2, TIMES22)
  _tile_stored(0, c[0], call.c_row);
  _tile_stored(1, second(c[0], call), call.c_row);
  _tile_stored(2, c[1], call.c_row);
  _tile_stored(3, second(c[1], call), call.c_row);
  memory_fence();
}

void tile21(const char* const* a, float* const* c, const SplitCall& call) {
  memory_fence();
  if (call.accumulate) {
    _tile_loadd(0, c[0], call.c_row);
    _tile_loadd(2, c[1], call.c_row);
  } else {
    _tile_zero(0);
    _tile_zero(2);
  }
  BLOCKS(A2, B1, TIMES21)
  _tile_stored(0, c[0], call.c_row);
  _tile_stored(2, c[1], call.c_row);
  memory_fence();
}

void tile12(const char* const* a, float* const* c, const SplitCall& call) {
  memory_fence();
  if (call.accumulate) {
    _tile_loadd(0, c[0], call.c_row);
    _tile_loadd(1, second(c[0], call), call.c_row);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  BLOCKS(A1, B2, TIMES12)
  _tile_stored(0, c[0], call.c_row);
  _tile_stored(1, second(c[0], call), call.c_row);
  memory_fence();
}

void tile11(const char* const* a, float* const* c, const SplitCall& call) {
  memory_fence();
  if (call.accumulate)
    _tile_loadd(0, c[0], call.c_row);
  else
    _tile_zero(0);
  BLOCKS(A1, B1, TIMES11)
  _tile_stored(0, c[0], call.c_row);
  memory_fence();
}

struct alignas(64) Config {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace

SplitFn split_tile(int ma, int nb) {
  return ma == 2 ? (nb == 2 ? tile22 : tile21) : nb == 2 ? tile12 : tile11;
}

SplitUnit::SplitUnit() {
  // Not a local one: to the compiler the intrinsic reads its first 8 bytes, the stores of the others may go.
  static constexpr Config config;
  _tile_loadconfig(&config);
}
SplitUnit::~SplitUnit() { _tile_release(); }

}  // namespace cnnmath::CNNMATH_ISA
#endif
