#include "kernels/conv/winograd.h"

#include "kernels/conv/winograd_transforms.h"
#include "kernels/pool/largest.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int L = Vec<float>::lanes;
constexpr int64_t kSourceBytes =
    600 << 10;  // of transformed source: with a panel of weights and of products it stays in L2
constexpr int64_t kLeastTiles = 12, kMostTiles = 48;
constexpr int64_t kTasks = 8;
constexpr int64_t kMostWeights = 128 * 128;  // channels in times out for each tile of an image
constexpr int64_t kAhead = 4;                // channels whose weights are fetched beforehand
constexpr int64_t kSpare = 16;               // a row tile may reach beyond the last row

// How the work is cut, from the shape alone.
struct Plan {
  int64_t rows, columns;  // tiles of an image
  int64_t tiles;          // of all images
  int64_t block, blocks;  // tiles of a task
  int64_t task_panels, panel_blocks;
  bool packs_ahead;  // the weights, in a phase of its own; else a task does, whose panels no other one reads
  int64_t source_step;   // numbers from point to point of the transformed source
  int64_t product_step;  // and of the products
  int64_t part_outs;     // outputs, in whole vectors
};

// Points that lie a multiple of 4 KiB apart would share their cache sets.
int64_t weights_step(const Sweep<float>& s, int64_t width) { return s.ic * width + L; }

Plan plan(const Sweep<float>& s) {
  Plan f{};
  f.rows = ceil_div(s.v.outs, kWinogradOut);
  f.columns = ceil_div(s.u.outs, kWinogradOut);
  f.tiles = s.n * f.rows * f.columns;
  const int64_t tile_bytes = kWinogradPoints * s.ic * 4;
  f.block = max_of(min_of(kSourceBytes / tile_bytes / kLeastTiles * kLeastTiles, kMostTiles), kLeastTiles);
  f.block = max_of(min_of(f.block, f.tiles), 1);
  f.blocks = ceil_div(f.tiles, f.block);
  f.block = min_of(round_up(ceil_div(f.tiles, max_of(f.blocks, 1)), 4), f.block);
  f.panel_blocks = min_of(ceil_div(kTasks, max_of(f.blocks, 1)), s.panels.count);
  f.task_panels = ceil_div(s.panels.count, f.panel_blocks);
  f.panel_blocks = ceil_div(s.panels.count, f.task_panels);
  f.packs_ahead = f.blocks > 1 || s.lasting;
  f.source_step = f.block * s.ic + L;
  f.part_outs = round_up(s.oc, L);
  f.product_step = f.block * s.panels.width() + L;
  if (s.panels.vectors(s.panels.count - 1) > s.panels.wide)
    f.product_step = f.block * s.panels.vectors(s.panels.count - 1) * L + L;
  return f;
}

struct Room {
  float* source;    // [point][tile][channel]
  float* products;  // [point][tile][column of the panel]
  float* weights;   // [point][channel][column], of a panel
  float* zeros;     // the channels of a pixel outside the map
  const float** a;  // rows of the products
  float** c;
};

Room room_of(const Sweep<float>& s, const Plan& f, char* memory, int64_t* bytes) {
  Room room{};
  int64_t at = 0;
  const auto take = [&](int64_t size) {
    char* p = memory + at;
    at += round_up(size, 64);
    return p;
  };
  room.source = reinterpret_cast<float*>(take(kWinogradPoints * f.source_step * 4));
  room.products = reinterpret_cast<float*>(take(kWinogradPoints * f.product_step * 4));
  const int64_t widest = max_of(s.panels.width(), int64_t{s.panels.vectors(s.panels.count - 1)} * L);
  room.weights =
      reinterpret_cast<float*>(take(f.packs_ahead ? 0 : kWinogradPoints * weights_step(s, widest) * 4));
  room.zeros = reinterpret_cast<float*>(take(round_up(s.ic, L) * 4));
  room.a = reinterpret_cast<const float**>(take((f.block + kSpare) * static_cast<int64_t>(sizeof(void*))));
  room.c = reinterpret_cast<float**>(take((f.block + kSpare) * static_cast<int64_t>(sizeof(void*))));
  if (bytes) *bytes = at;
  return room;
}

// Weights of 16 outputs and up to 16 channels, transformed: to[point * point_step + k * k_step + o].
void pack_square(const Sweep<float>& s, const WeightsAt<float>& w, int64_t k0, int64_t depth, int64_t o0,
                 int64_t outs, float* to, int64_t point_step, int64_t k_step) {
  const auto tap = [&](int64_t i, int64_t j) {
    return w.base + ((s.v.tap_begin + i * s.v.tap_step) * w.kernel_width + s.u.tap_begin + j * s.u.tap_step) *
                        w.tap_step;
  };
  const auto transform = [](const Vec<float>(&in)[3], Vec<float>(&out)[6]) { winograd_weights(in, out); };
  const auto put = [&](Vec<float>(&g)[3][3], int64_t k) __attribute__((always_inline)) {
    Vec<float> u[6][6];
    winograd_both<3, 6>(g, u, transform);
#pragma GCC unroll 36
    for (int p = 0; p < kWinogradPoints; ++p) store(to + p * point_step + k * k_step, u[p / 6][p % 6]);
  };
  Vec<float> g[3][3];
  if (w.o_step == 1) {
    for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 9
      for (int i = 0; i < 9; ++i) {
        const float* from = tap(i / 3, i % 3) + (k0 + k) * w.k_step + o0;
        __builtin_prefetch(from + kAhead * w.k_step);
        g[i / 3][i % 3] = outs >= L ? load(from) : load_n(from, outs);
      }
      put(g, k);
    }
    return;
  }
  float turned[9][L * L];
  for (int i = 0; i < 9; ++i)
    pack_transposed(turned[i], L, tap(i / 3, i % 3) + o0 * w.o_step + k0, w.o_step, depth, outs);
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) g[i / 3][i % 3] = load(turned[i] + k * L);
    put(g, k);
  }
}

// A panel of weights, channels [k, k + L).
void pack_panel_of(const Sweep<float>& s, const WeightsAt<float>& w, int64_t panel, int64_t k, float* to) {
  const int64_t width = int64_t{s.panels.vectors(panel)} * L;
  for (int64_t o = 0; o < width; o += L)
    pack_square(s, w, k, min_of(s.ic - k, L), s.panels.begin(panel) + o,
                min_of(s.panels.columns(panel) - o, L), to + k * width + o, weights_step(s, width), width);
}

// Where a tile lies.
struct Place {
  int64_t image, row, column;
};
Place place_of(const Plan& f, int64_t tile) {
  const int64_t in_image = tile % (f.rows * f.columns);
  return {tile / (f.rows * f.columns), in_image / f.columns * kWinogradOut,
          in_image % f.columns * kWinogradOut};
}

template <class Load>
CNNMATH_INLINE void transform_channels(const Sweep<float>& s, const Plan& f, Load load_pixels, float* to) {
  for (int64_t k = 0; k < s.ic; k += L) {
    Vec<float> d[6][6], v[6][6];
    load_pixels(k, s.ic - k, d);
    winograd_both<6, 6>(d, v, [](const Vec<float>(&in)[6], Vec<float>(&out)[6]) { winograd_input(in, out); });
    if (s.ic - k >= L) {
#pragma GCC unroll 36
      for (int p = 0; p < kWinogradPoints; ++p) store(to + p * f.source_step + k, v[p / 6][p % 6]);
    } else {
      for (int p = 0; p < kWinogradPoints; ++p)
        store_n(to + p * f.source_step + k, v[p / 6][p % 6], s.ic - k);
    }
  }
}

template <bool OddRow, bool OddColumn>
void transform_windows(const Sweep<float>& s, const Plan& f, const float* x, const uint8_t* codes,
                       const Place& at, int64_t row, int64_t column, float* to) {
  const int64_t image = at.image * (s.h / 2) * (s.w / 2) * s.c;
  const WinogradWindows<6, OddRow, OddColumn> windows(x + image, codes + image, s.h, s.w, s.c, row, column);
  const auto load_windows = [&](int64_t k, int64_t n, Vec<float>(&d)[6][6])
                                __attribute__((always_inline)) { windows.load(k, n, d); };
  transform_channels(s, f, load_windows, to);
}

void transform_source(const Sweep<float>& s, const Plan& f, const float* x, const Reading& reading,
                      const Place& at, const float* zeros, float* to) {
  const int64_t row = at.row + s.v.offset, column = at.column + s.u.offset;
  if (reading.codes) {
    constexpr auto even = transform_windows<false, false>, odd = transform_windows<true, true>,
                   odd_row = transform_windows<true, false>, odd_column = transform_windows<false, true>;
    const auto transform = row % 2 ? (column % 2 ? odd : odd_row) : column % 2 ? odd_column : even;
    return transform(s, f, x, reading.codes, at, row, column, to);
  }
  const float* pixel[6][6];
  winograd_pixels({x + at.image * s.h * s.w * s.c, s.h, s.w, s.c}, row, column, zeros, pixel);
  const auto load_plain = [&](int64_t k, int64_t n, Vec<float>(&d)[6][6])
                              __attribute__((always_inline)) { winograd_load(pixel, k, n, d); };
  const auto load_normed = [&](int64_t k, int64_t n, Vec<float>(&d)[6][6]) __attribute__((always_inline)) {
    winograd_load_normed(pixel, zeros, reading.norm, s.c, k, n, d);
  };
  if (reading.norm)
    transform_channels(s, f, load_normed, to);
  else
    transform_channels(s, f, load_plain, to);
}

// What a tile covers of the map.
struct Reach {
  int64_t rows, columns;
  int64_t pixels() const { return rows * columns; }
};
Reach reach_of(const Sweep<float>& s, const Place& at) {
  return {min_of(s.v.outs - at.row, kWinogradOut), min_of(s.u.outs - at.column, kWinogradOut)};
}

template <bool Whole>
CNNMATH_INLINE Vec<float> take(const float* p, int64_t n) {
  return Whole ? load(p) : load_n(p, n);
}
template <bool Whole>
CNNMATH_INLINE void put(float* p, Vec<float> v, int64_t n) {
  if constexpr (Whole)
    store(p, v);
  else
    store_n(p, v, n);
}

// f.operator()<Whole>(i, j) for the pixels of a tile; Whole where all of them, and vectors, are whole.
template <class F>
CNNMATH_INLINE void each_pixel(const Reach& reach, int64_t n, F f) {
  if (reach.pixels() == kWinogradOut * kWinogradOut && n == L) {
#pragma GCC unroll 4
    for (int i = 0; i < kWinogradOut; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < kWinogradOut; ++j) f.template operator()<true>(i, j);
  } else {
    for (int64_t i = 0; i < reach.rows; ++i)
      for (int64_t j = 0; j < reach.columns; ++j) f.template operator()<false>(i, j);
  }
}

// Merges the moments of a tile into those of `before` pixels (Chan, as in kernels/norm).
CNNMATH_INLINE void add_moments(const Vec<float> (&out)[4][4], const Reach& reach, int64_t before,
                                float* mean_at, float* m2_at) {
  Vec<float> sum = zero<float>(), m2 = zero<float>();
  each_pixel(reach, L,
             [&]<bool>(int64_t i, int64_t j) __attribute__((always_inline)) { sum = sum + out[i][j]; });
  const float pixels = static_cast<float>(reach.pixels()), na = static_cast<float>(before);
  const Vec<float> mean = sum * set1<float>(1 / pixels);
  each_pixel(reach, L, [&]<bool>(int64_t i, int64_t j) __attribute__((always_inline)) {
    const Vec<float> d = out[i][j] - mean;
    m2 = fma(d, d, m2);
  });
  const float share = pixels / (na + pixels);
  const Vec<float> old = load(mean_at), delta = mean - old;
  store(mean_at, fma(delta, set1<float>(share), old));
  store(m2_at, load(m2_at) + fma(delta * delta, set1<float>(na * share), m2));
}

// Where the outputs of a tile go, and what lies in the other arrays at these places.
struct Target {
  int64_t first, line, pixel;
  int64_t at(int64_t i, int64_t j) const { return first + i * line + j * pixel; }
};
Target target_of(const Sweep<float>& s, const Place& at, int64_t o) {
  return {((at.image * s.out_h + at.row) * s.out_w + at.column) * s.oc + o, s.out_w * s.oc, s.oc};
}

// The maxima of a tile, and their codes.
CNNMATH_INLINE void put_largest(const Sweep<float>& s, const Vec<float> (&out)[4][4], const Place& at,
                                const Reach& reach, int64_t o, int64_t n, float* y, uint8_t* codes) {
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
      uint8_t bytes[L];
      store_u8<float>(n == L ? codes + place : bytes, best.place);
      for (int64_t k = 0; n < L && k < n; ++k) codes[place + k] = bytes[k];
    }
  }
}

// A gradient goes on through the ReLU that gave `seen`; `sum` is the task's.
CNNMATH_INLINE void put_gradient(const Vec<float> (&out)[4][4], const Reach& reach, const Target& to,
                                 int64_t n, const float* seen, float* y, float* sum) {
  Vec<float> z = zero<float>();
  each_pixel(reach, n, [&]<bool Whole>(int64_t i, int64_t j) __attribute__((always_inline)) {
    const int64_t at = to.at(i, j);
    const Vec<float> v = select(le(take<Whole>(seen + at, n), zero<float>()), zero<float>(), out[i][j]);
    put<Whole>(y + at, v, n);
    z = z + v;
  });
  if (sum) store(sum, load(sum) + z);
}

// Outputs [o, o + n) of a tile, from their products. `part` holds the sums of the task, whose tiles before had `before` pixels.
void transform_products(const Sweep<float>& s, const Plan& f, const float* products, const Place& at,
                        int64_t o, int64_t n, const WinogradExtras& e, const float* x,
                        const WeightsAt<float>& w, float* y, float* part, int64_t before) {
  Vec<float> m[6][6], out[4][4];
#pragma GCC unroll 36
  for (int p = 0; p < kWinogradPoints; ++p) m[p / 6][p % 6] = load(products + p * f.product_step);
  winograd_both<6, 4>(m, out, [](const Vec<float>(&in)[6], Vec<float>(&to)[4]) { winograd_output(in, to); });
  const Reach reach = reach_of(s, at);
  Vec<float> check = zero<float>();  // NaN where an output is not finite
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) fma_to(check, out[i][j], zero<float>());
  if (any(ne(check, check))) {
    for (int64_t i = 0; i < reach.rows; ++i) {
      for (int64_t j = 0; j < reach.columns; ++j)
        out[i][j] = sweep_numbers(s, w, x, at.image, at.row + i, at.column + j, o, n, e.source);
    }
  }
  const Target to = target_of(s, at, o);
  if (e.passed) return put_gradient(out, reach, to, n, e.passed, y, part ? part + o : nullptr);
  const Vec<float> b = e.bias ? load_n(e.bias + o, n) : zero<float>();
  each_pixel(reach, n, [&]<bool Whole>(int64_t i, int64_t j) __attribute__((always_inline)) {
    out[i][j] = out[i][j] + b;
    if (e.relu) out[i][j] = max(zero<float>(), out[i][j]);
    if (!e.pools) put<Whole>(y + to.at(i, j), out[i][j], n);
  });
  if (e.pools) put_largest(s, out, at, reach, o, n, y, e.codes);
  if (part) add_moments(out, reach, before, part + o, part + f.part_outs + o);
}

int64_t winograd_tasks(const Sweep<float>& s) {
  const Plan f = plan(s);
  return f.blocks * f.panel_blocks;
}

int64_t winograd_pack_tasks(const Sweep<float>& s) {
  return plan(s).packs_ahead ? s.panels.count * ceil_div(s.ic, L) : 0;
}

// Packed weights, [panel][point][channel][column]: where those of a panel begin.
int64_t packed_begin(const Sweep<float>& s, int64_t panel) {
  return kWinogradPoints * (s.ic * s.panels.begin(panel) + panel * L);
}
int64_t winograd_packed_bytes(const Sweep<float>& s) {
  return plan(s).packs_ahead ? kWinogradPoints * (s.ic * s.panels.padded() + s.panels.count * L) * 4 : 0;
}

int64_t winograd_scratch(const Sweep<float>& s) {
  int64_t bytes = 0;
  room_of(s, plan(s), nullptr, &bytes);
  return bytes;
}

void winograd_pack(const Sweep<float>& s, const WeightsAt<float>& w, void* packed, int64_t task) {
  const int64_t panel = task % s.panels.count, k = task / s.panels.count * L;
  pack_panel_of(s, w, panel, k, static_cast<float*>(packed) + packed_begin(s, panel));
}

}  // namespace

WinogradParts winograd_parts(const Sweep<float>& s) {
  const Plan f = plan(s);
  return {f.blocks, 2 * f.part_outs + L};
}

void winograd_run(const Sweep<float>& s, const float* x, const WinogradExtras& extras,
                  const WeightsAt<float>& w, const void* packed, float* y, void* scratch, int64_t task) {
  const Plan f = plan(s);
  const int64_t panel0 = task % f.panel_blocks * f.task_panels;
  const int64_t panel1 = min_of(panel0 + f.task_panels, s.panels.count);
  const int64_t tile0 = task / f.panel_blocks * f.block, tiles = min_of(f.block, f.tiles - tile0);
  const Room room = room_of(s, f, static_cast<char*>(scratch), nullptr);
  zero_run(room.zeros, round_up(s.ic, L));
  const int64_t from = s.panels.begin(panel0),
                outs = s.panels.begin(panel1 - 1) + s.panels.columns(panel1 - 1) - from;
  for (int64_t t = 0; t < tiles; ++t)
    transform_source(s, f, x, extras.source, place_of(f, tile0 + t), room.zeros, room.source + t * s.ic);
  float* part = nullptr;
  if (extras.parts) {
    part = extras.parts + task / f.panel_blocks * winograd_parts(s).step;
    zero_run(part + from, round_up(outs, L));
    zero_run(part + f.part_outs + from, round_up(outs, L));
  }
  for (int64_t panel = panel0; panel < panel1; ++panel) {
    const int nv = s.panels.vectors(panel);
    const int64_t width = int64_t{nv} * L;
    const Deal<float> deal(row_tiles<float>(nv), nv, false);
    for (int64_t t = 0; t < tiles + kSpare; ++t) {
      const int64_t row = min_of(t, tiles - 1);
      room.a[t] = room.source + row * s.ic;
      room.c[t] = room.products + row * width;
    }
    const float* weights = room.weights;
    if (f.packs_ahead)
      weights = static_cast<const float*>(packed) + packed_begin(s, panel);
    else
      for (int64_t k = 0; k < s.ic; k += L) pack_panel_of(s, w, panel, k, room.weights);
    const int64_t zero = 0;
    for (int64_t p = 0; p < kWinogradPoints; ++p) {
      const int64_t a_offset = p * f.source_step;
      const TileCall<float> call{
          1,     &a_offset, &zero, s.ic, weights + p * weights_step(s, width), width, 0, p * f.product_step,
          width, nullptr,   0,     0};
      run_rows(room.a, room.c, tiles, deal, call);
    }
    int64_t pixels = 0;
    for (int64_t t = 0; t < tiles; ++t) {
      const Place at = place_of(f, tile0 + t);
      for (int64_t o = 0; o < s.panels.columns(panel); o += L)
        transform_products(s, f, room.products + t * width + o, at, s.panels.begin(panel) + o,
                           min_of(s.panels.columns(panel) - o, L), extras, x, w, y, part, pixels);
      pixels += reach_of(s, at).pixels();
    }
    if (part && panel == 0) part[2 * f.part_outs] = static_cast<float>(pixels);
  }
}

bool winograd_suits(int64_t in, int64_t out, int64_t rows, int64_t columns) {
  const int64_t tiles = ceil_div(rows, kWinogradOut) * ceil_div(columns, kWinogradOut);
  // Transforms must be repaid: those of pixels by the channels, those of the weights by the tiles. Edge tiles are in part idle.
  return in >= 16 && out >= 16 && in * out <= tiles * kMostWeights && 10 * rows * columns >= 6 * 16 * tiles;
}

template <>
bool winograd_pays(const Sweep<float>& s) {
  if (s.direct || s.groups != 1 || s.v.taps != 3 || s.u.taps != 3 || s.n == 0 || s.v.outs <= 0 ||
      s.u.outs <= 0)
    return false;
  if (s.v.out_step != 1 || s.u.out_step != 1 || s.v.source_step != 1 || s.u.source_step != 1) return false;
  return s.v.offset_step == 1 && s.u.offset_step == 1 && winograd_suits(s.ic, s.oc, s.v.outs, s.u.outs);
}
template <>
SweepWay<float> winograd_way() {
  return {winograd_pack_tasks,
          winograd_packed_bytes,
          winograd_pack,
          winograd_tasks,
          winograd_scratch,
          [](const Sweep<float>& s, const float* x, const WeightsAt<float>& w, const void* packed,
             const float* bias, int64_t relu, float* y, void* scratch, int64_t task) {
            WinogradExtras extras{};
            extras.bias = bias, extras.relu = relu;
            winograd_run(s, x, extras, w, packed, y, scratch, task);
          }};
}

template <>
bool winograd_pays(const Sweep<double>&) {
  return false;
}
template <>
SweepWay<double> winograd_way() {
  return {};
}

}  // namespace cnnmath::CNNMATH_ISA
