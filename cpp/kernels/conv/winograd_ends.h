// The two ends of a Winograd sweep, whichever way it multiplies: weights and tiles of the source become 36 numbers each, and
// the sums of their products become outputs.
#pragma once
#include "kernels/conv/winograd.h"
#include "kernels/conv/winograd_transforms.h"
#include "kernels/pool/largest.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

constexpr int kWinogradLanes = Vec<float>::lanes;

// The tiles of all outputs: by image, row and column.
struct WinogradTiles {
  int64_t rows, columns, count;  // of an image, of all
};
static inline WinogradTiles winograd_tiles(int64_t images, int64_t height, int64_t width) {
  const int64_t rows = ceil_div(height, kWinogradOut), columns = ceil_div(width, kWinogradOut);
  return {rows, columns, images * rows * columns};
}
static inline WinogradTiles winograd_tiles(const Sweep<float>& s) {
  return winograd_tiles(s.n, s.v.outs, s.u.outs);
}

// Where the outputs of a tile begin.
struct WinogradPlace {
  int64_t image, row, column;
};
static inline WinogradPlace winograd_place(const WinogradTiles& tiles, int64_t tile) {
  const int64_t in_image = tile % (tiles.rows * tiles.columns);
  return {tile / (tiles.rows * tiles.columns), in_image / tiles.columns * kWinogradOut,
          in_image % tiles.columns * kWinogradOut};
}

// ---------------------------------------------------------------- weights
constexpr int64_t kWeightsAhead = 4;  // channels whose weights are fetched beforehand

// The weights of a vector of outputs (`outs` of them, from o on) and up to as many channels, `depth`, from k on.
class WinogradSquare {
 public:
  WinogradSquare(const Sweep<float>& s, const WeightsAt<float>& w, int64_t k, int64_t depth, int64_t o,
                 int64_t outs)
      : k_step_(w.k_step), outs_(outs), turns_(w.o_step != 1) {
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) {
      const float* from = w.tap(s, i / 3, i % 3) + o * w.o_step + k * w.k_step;
      if (turns_ && depth > 0) pack_transposed(turned_[i], kWinogradLanes, from, w.o_step, depth, outs);
      tap_[i] = from;
    }
  }
  // The 36 numbers of channel k + i.
  CNNMATH_INLINE void numbers(int64_t i, Vec<float> (&u)[6][6]) const {
    Vec<float> g[3][3];
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) {
      if (turns_) {
        g[t / 3][t % 3] = load(turned_[t] + i * kWinogradLanes);
        continue;
      }
      const float* from = tap_[t] + i * k_step_;
      __builtin_prefetch(from + kWeightsAhead * k_step_);
      g[t / 3][t % 3] = outs_ >= kWinogradLanes ? load(from) : load_n(from, outs_);
    }
    winograd_both<3, 6>(g, u,
                        [](const Vec<float>(&in)[3], Vec<float>(&out)[6]) { winograd_weights(in, out); });
  }

 private:
  int64_t k_step_, outs_;
  bool turns_;  // outputs do not lie side by side
  const float* tap_[9];
  float turned_[9][kWinogradLanes * kWinogradLanes];
};

// ---------------------------------------------------------------- source
// The 36 numbers of a vector of channels from k on; load_pixels(k, channels left, d) reads it.
template <class Load>
CNNMATH_INLINE void winograd_numbers(Load load_pixels, int64_t k, int64_t left, Vec<float> (&v)[6][6]) {
  Vec<float> d[6][6];
  load_pixels(k, left, d);
  winograd_both<6, 6>(d, v, [](const Vec<float>(&in)[6], Vec<float>(&out)[6]) { winograd_input(in, out); });
}

// Calls put(load_pixels) for a tile, with what reads its 6 x 6 pixels in the way that `reading` says.
template <class Put>
void winograd_source(const Sweep<float>& s, const float* x, const Reading& reading, const WinogradPlace& at,
                     const float* zeros, Put put) {
  const int64_t row = at.row + s.v.offset, column = at.column + s.u.offset;
  if (reading.codes) {
    const int64_t image = at.image * (s.h / 2) * (s.w / 2) * s.c;
    const auto put_windows = [&]<bool OddRow, bool OddColumn>() {
      const WinogradWindows<6, OddRow, OddColumn> windows(x + image, reading.codes + image, s.h, s.w, s.c,
                                                          row, column);
      put([&](int64_t k, int64_t n, Vec<float>(&d)[6][6])
              __attribute__((always_inline)) { windows.load(k, n, d); });
    };
    if (row % 2)
      return column % 2 ? put_windows.template operator()<true, true>()
                        : put_windows.template operator()<true, false>();
    return column % 2 ? put_windows.template operator()<false, true>()
                      : put_windows.template operator()<false, false>();
  }
  const float* pixel[6][6];
  winograd_pixels({x + at.image * s.h * s.w * s.c, s.h, s.w, s.c}, row, column, zeros, pixel);
  if (reading.norm)
    put([&](int64_t k, int64_t n, Vec<float>(&d)[6][6]) __attribute__((always_inline)) {
      winograd_load_normed(pixel, zeros, reading.norm, s.c, k, n, d);
    });
  else
    put([&](int64_t k, int64_t n, Vec<float>(&d)[6][6])
            __attribute__((always_inline)) { winograd_load(pixel, k, n, d); });
}

// ---------------------------------------------------------------- outputs
// What a tile covers of the map.
struct WinogradReach {
  int64_t rows, columns;
  int64_t pixels() const { return rows * columns; }
};
static inline WinogradReach winograd_reach(const Sweep<float>& s, const WinogradPlace& at) {
  return {min_of(s.v.outs - at.row, kWinogradOut), min_of(s.u.outs - at.column, kWinogradOut)};
}

template <bool Whole>
CNNMATH_INLINE Vec<float> winograd_take(const float* p, int64_t n) {
  return Whole ? load(p) : load_n(p, n);
}
template <bool Whole>
CNNMATH_INLINE void winograd_put(float* p, Vec<float> v, int64_t n) {
  if constexpr (Whole)
    store(p, v);
  else
    store_n(p, v, n);
}

// f.operator()<Whole>(i, j) for the pixels of a tile; Whole where all of them, and vectors, are whole.
template <class F>
CNNMATH_INLINE void winograd_each(const WinogradReach& reach, int64_t n, F f) {
  if (reach.pixels() == kWinogradOut * kWinogradOut && n == kWinogradLanes) {
#pragma GCC unroll 4
    for (int i = 0; i < kWinogradOut; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < kWinogradOut; ++j) f.template operator()<true>(i, j);
  } else {
    for (int64_t i = 0; i < reach.rows; ++i)
      for (int64_t j = 0; j < reach.columns; ++j) f.template operator()<false>(i, j);
  }
}

// Where the sums of squares begin in a part (winograd_parts), behind the means.
static inline int64_t winograd_part_outs(const Sweep<float>& s) { return round_up(s.oc, kWinogradLanes); }

static inline WinogradParts winograd_parts_of(const Sweep<float>& s, int64_t count) {
  return {count, 2 * winograd_part_outs(s) + kWinogradLanes, winograd_part_outs(s)};
}

// Merges the moments of a tile into those of `before` pixels (Chan, as in kernels/norm).
static CNNMATH_INLINE void winograd_add_moments(const Vec<float> (&out)[4][4], const WinogradReach& reach,
                                                int64_t before, float* mean_at, float* m2_at) {
  Vec<float> sum = zero<float>(), m2 = zero<float>();
  winograd_each(reach, kWinogradLanes,
                [&]<bool>(int64_t i, int64_t j) __attribute__((always_inline)) { sum = sum + out[i][j]; });
  const float pixels = static_cast<float>(reach.pixels()), na = static_cast<float>(before);
  const Vec<float> mean = sum * set1<float>(1 / pixels);
  winograd_each(reach, kWinogradLanes, [&]<bool>(int64_t i, int64_t j) __attribute__((always_inline)) {
    const Vec<float> d = out[i][j] - mean;
    m2 = fma(d, d, m2);
  });
  const float share = pixels / (na + pixels);
  const Vec<float> old = load(mean_at), delta = mean - old;
  store(mean_at, fma(delta, set1<float>(share), old));
  store(m2_at, load(m2_at) + fma(delta * delta, set1<float>(na * share), m2));
}

// Where the outputs of a tile go, and what lies in the other arrays at these places.
struct WinogradTarget {
  int64_t first, line, pixel;
  int64_t at(int64_t i, int64_t j) const { return first + i * line + j * pixel; }
};
static inline WinogradTarget winograd_target(const Sweep<float>& s, const WinogradPlace& at, int64_t o) {
  return {((at.image * s.out_h + at.row) * s.out_w + at.column) * s.oc + o, s.out_w * s.oc, s.oc};
}

// The maxima of a tile, and their codes.
static CNNMATH_INLINE void winograd_put_largest(const Sweep<float>& s, const Vec<float> (&out)[4][4],
                                                const WinogradPlace& at, const WinogradReach& reach,
                                                int64_t o, int64_t n, float* y, uint8_t* codes) {
#pragma GCC unroll 2
  for (int64_t i = 0; i < kWinogradOut / 2; ++i) {
#pragma GCC unroll 2
    for (int64_t j = 0; j < kWinogradOut / 2; ++j) {
      if (2 * i >= reach.rows || 2 * j >= reach.columns) continue;
      Largest<float> best{out[2 * i][2 * j], zero_int<float>()};
      best.meet(out[2 * i][2 * j + 1], 1);
      best.meet(out[2 * i + 1][2 * j], 2);
      best.meet(out[2 * i + 1][2 * j + 1], 3);
      const int64_t row = (at.image * s.v.outs + at.row) / 2 + i, column = at.column / 2 + j;
      const int64_t place = (row * (s.u.outs / 2) + column) * s.oc + o;
      store_n(y + place, best.value, n);
      if (!codes) continue;
      uint8_t bytes[kWinogradLanes];
      store_u8<float>(n == kWinogradLanes ? codes + place : bytes, best.place);
      for (int64_t k = 0; n < kWinogradLanes && k < n; ++k) codes[place + k] = bytes[k];
    }
  }
}

// A gradient goes on through the ReLU that gave `seen`; `sum` is the task's.
static CNNMATH_INLINE void winograd_put_gradient(const Vec<float> (&out)[4][4], const WinogradReach& reach,
                                                 const WinogradTarget& to, int64_t n, const float* seen,
                                                 float* y, float* sum) {
  Vec<float> z = zero<float>();
  winograd_each(reach, n, [&]<bool Whole>(int64_t i, int64_t j) __attribute__((always_inline)) {
    const int64_t at = to.at(i, j);
    const Vec<float> v =
        select(le(winograd_take<Whole>(seen + at, n), zero<float>()), zero<float>(), out[i][j]);
    winograd_put<Whole>(y + at, v, n);
    z = z + v;
  });
  if (sum) store(sum, load(sum) + z);
}

// Outputs [o, o + n) of a tile, from their products. `part` holds the sums of the task, whose tiles before had `before` pixels.
static inline void winograd_tile_outputs(const Sweep<float>& s, const float* products, int64_t product_step,
                                         const WinogradPlace& at, int64_t o, int64_t n,
                                         const WinogradExtras& e, const float* x, const WeightsAt<float>& w,
                                         float* y, float* part, int64_t before) {
  Vec<float> m[6][6], out[4][4];
#pragma GCC unroll 36
  for (int p = 0; p < kWinogradPoints; ++p) m[p / 6][p % 6] = load(products + p * product_step);
  winograd_both<6, 4>(m, out, [](const Vec<float>(&in)[6], Vec<float>(&to)[4]) { winograd_output(in, to); });
  const WinogradReach reach = winograd_reach(s, at);
  Vec<float> check = zero<float>();  // NaN where an output is not finite
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) fma_to(check, out[i][j], zero<float>());
  if (any(ne(check, check))) {
    for (int64_t i = 0; i < reach.rows; ++i) {
      for (int64_t j = 0; j < reach.columns; ++j)
        out[i][j] = sweep_numbers(s, w, x, at.image, at.row + i, at.column + j, o, n, e.source);
    }
  }
  const WinogradTarget to = winograd_target(s, at, o);
  if (e.passed) return winograd_put_gradient(out, reach, to, n, e.passed, y, part ? part + o : nullptr);
  const Vec<float> b = e.bias ? load_n(e.bias + o, n) : zero<float>();
  winograd_each(reach, n, [&]<bool Whole>(int64_t i, int64_t j) __attribute__((always_inline)) {
    out[i][j] = out[i][j] + b;
    if (e.relu) out[i][j] = max(zero<float>(), out[i][j]);
    if (!e.pools) winograd_put<Whole>(y + to.at(i, j), out[i][j], n);
  });
  if (e.pools) winograd_put_largest(s, out, at, reach, o, n, y, e.codes);
  if (part) winograd_add_moments(out, reach, before, part + o, part + winograd_part_outs(s) + o);
}

// Fetches what lies where the outputs of a tile will go, and in `seen` at these places. (Not inlined, it would be a function without
// effect to the compiler, which drops such calls.)
constexpr int64_t kTilesAhead = 2;
static CNNMATH_INLINE void winograd_fetch(const Sweep<float>& s, const WinogradPlace& at, int64_t from,
                                          int64_t outs, const float* seen, const float* y) {
  const WinogradReach reach = winograd_reach(s, at);
  const WinogradTarget to = winograd_target(s, at, from);
  for (int64_t i = 0; i < reach.rows; ++i) {
    for (int64_t j = 0; j < reach.columns; ++j) {
      for (int64_t o = 0; o < outs; o += kWinogradLanes) {
        __builtin_prefetch(y + to.at(i, j) + o, 1);
        if (seen) __builtin_prefetch(seen + to.at(i, j) + o);
      }
    }
  }
}

// Outputs [from, from + outs) of `count` tiles from tile `first` on, the number of a point and a tile for output o being
// products[point * point_step + (tile - first) * width + o - from]. `part` is the task's, or null.
static inline void winograd_outputs(const Sweep<float>& s, const WinogradTiles& tiles, int64_t first,
                                    int64_t count, int64_t from, int64_t outs, const float* products,
                                    int64_t point_step, int64_t width, const WinogradExtras& extras,
                                    const float* x, const WeightsAt<float>& w, float* y, float* part) {
  if (part) {
    zero_run(part + from, round_up(outs, kWinogradLanes));
    zero_run(part + winograd_part_outs(s) + from, round_up(outs, kWinogradLanes));
  }
  int64_t pixels = 0;
  for (int64_t t = 0; t < count; ++t) {
    const WinogradPlace at = winograd_place(tiles, first + t);
    if (!extras.pools)
      winograd_fetch(s, winograd_place(tiles, first + min_of(t + kTilesAhead, count - 1)), from, outs,
                     extras.passed, y);
    for (int64_t o = 0; o < outs; o += kWinogradLanes)
      winograd_tile_outputs(s, products + t * width + o, point_step, at, from + o,
                            min_of(outs - o, kWinogradLanes), extras, x, w, y, part, pixels);
    pixels += winograd_reach(s, at).pixels();
  }
  if (part && from == 0) part[2 * winograd_part_outs(s)] = static_cast<float>(pixels);
}

}  // namespace cnnmath::CNNMATH_ISA
