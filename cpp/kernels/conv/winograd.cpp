#include "kernels/conv/winograd.h"

#include "kernels/conv/winograd_ends.h"
#include "kernels/conv/winograd_split.h"
#include "simd/cut.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int L = Vec<float>::lanes;
constexpr int64_t kSourceBytes =
    600 << 10;  // of transformed source: with a panel of weights and of products it stays in L2
constexpr int64_t kLeastTiles = 12, kMostTiles = 48;
constexpr int64_t kTasks = 8;
constexpr int64_t kMostWeights = 128 * 128;  // channels in times out for each tile of an image
constexpr int64_t kSpare = 16;               // a row tile may reach beyond the last row

// How the work is cut, from the shape alone.
struct Plan {
  WinogradTiles tiles;
  int64_t block, blocks;  // tiles of a task
  int64_t task_panels, panel_blocks;
  bool packs_ahead;  // the weights, in a phase of its own; else a task does, whose panels no other one reads
  int64_t source_step;   // numbers from point to point of the transformed source
  int64_t product_step;  // and of the products
};

// Points that lie a multiple of 4 KiB apart would share their cache sets.
int64_t weights_step(const Sweep<float>& s, int64_t width) { return s.ic * width + L; }

Plan plan(const Sweep<float>& s) {
  Plan f{};
  f.tiles = winograd_tiles(s);
  const int64_t tile_bytes = kWinogradPoints * s.ic * 4;
  f.block = max_of(min_of(kSourceBytes / tile_bytes / kLeastTiles * kLeastTiles, kMostTiles), kLeastTiles);
  f.block = max_of(min_of(f.block, f.tiles.count), 1);
  f.blocks = ceil_div(f.tiles.count, f.block);
  f.block = min_of(round_up(ceil_div(f.tiles.count, max_of(f.blocks, 1)), 4), f.block);
  f.panel_blocks = min_of(ceil_div(kTasks, max_of(f.blocks, 1)), s.panels.count);
  f.task_panels = ceil_div(s.panels.count, f.panel_blocks);
  f.panel_blocks = ceil_div(s.panels.count, f.task_panels);
  f.packs_ahead = f.blocks > 1 || s.lasting;
  f.source_step = f.block * s.ic + L;
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
  Cut cut(memory);
  cut.take(room.source, kWinogradPoints * f.source_step);
  cut.take(room.products, kWinogradPoints * f.product_step);
  const int64_t widest = max_of(s.panels.width(), int64_t{s.panels.vectors(s.panels.count - 1)} * L);
  cut.take(room.weights, f.packs_ahead ? 0 : kWinogradPoints * weights_step(s, widest));
  cut.take(room.zeros, round_up(s.ic, L));
  cut.take(room.a, f.block + kSpare);
  cut.take(room.c, f.block + kSpare);
  if (bytes) *bytes = cut.bytes();
  return room;
}

// A panel of weights, channels [k, k + L): to[point * weights_step + channel * width + column].
void pack_panel_of(const Sweep<float>& s, const WeightsAt<float>& w, int64_t panel, int64_t k, float* to) {
  const int64_t width = int64_t{s.panels.vectors(panel)} * L, depth = min_of(s.ic - k, L);
  to += k * width;
  for (int64_t o = 0; o < width; o += L) {
    const WinogradSquare square(s, w, k, depth, s.panels.begin(panel) + o,
                                min_of(s.panels.columns(panel) - o, L));
    for (int64_t i = 0; i < depth; ++i) {
      Vec<float> u[6][6];
      square.numbers(i, u);
#pragma GCC unroll 36
      for (int p = 0; p < kWinogradPoints; ++p)
        store(to + p * weights_step(s, width) + i * width + o, u[p / 6][p % 6]);
    }
  }
}

// A tile's numbers, to[point * source_step + channel].
template <class Load>
void put_source(const Sweep<float>& s, const Plan& f, Load load_pixels, float* to) {
  const int64_t step = f.source_step;
  for (int64_t k = 0; k < s.ic; k += L, to += L) {
    const int64_t n = s.ic - k;
    Vec<float> d[6][6];
    load_pixels(k, n, d);
    winograd_by_rows<6, 6>(d, 0, 6, winograd_input<float>, [&](int64_t i, const Vec<float>(&v)[6]) {
      float* at = to + 6 * i * step;
      if (n >= L) {
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) store(at + j * step, v[j]);
      } else {
        for (int j = 0; j < 6; ++j) store_n(at + j * step, v[j], n);
      }
    });
  }
}

int64_t tasks(const Sweep<float>& s) {
  const Plan f = plan(s);
  return f.blocks * f.panel_blocks;
}

int64_t pack_tasks(const Sweep<float>& s) {
  return plan(s).packs_ahead ? s.panels.count * ceil_div(s.ic, L) : 0;
}

// Packed weights, [panel][point][channel][column]: where those of a panel begin.
int64_t packed_begin(const Sweep<float>& s, int64_t panel) {
  return kWinogradPoints * (s.ic * s.panels.begin(panel) + panel * L);
}
int64_t packed_bytes(const Sweep<float>& s) {
  return plan(s).packs_ahead ? kWinogradPoints * (s.ic * s.panels.padded() + s.panels.count * L) * 4 : 0;
}

int64_t scratch_bytes(const Sweep<float>& s) {
  int64_t bytes = 0;
  room_of(s, plan(s), nullptr, &bytes);
  return bytes;
}

void pack(const Sweep<float>& s, const WeightsAt<float>& w, void* packed, int64_t task) {
  const int64_t panel = task % s.panels.count, k = task / s.panels.count * L;
  pack_panel_of(s, w, panel, k, static_cast<float*>(packed) + packed_begin(s, panel));
}

WinogradParts parts(const Sweep<float>& s) { return winograd_parts_of(s, plan(s).blocks); }

void run(const Sweep<float>& s, const float* x, const WinogradExtras& extras, const WeightsAt<float>& w,
         const void* packed, float* y, void* scratch, int64_t task) {
  const Plan f = plan(s);
  const int64_t block = task / f.panel_blocks, panel0 = task % f.panel_blocks * f.task_panels;
  const int64_t panel1 = min_of(panel0 + f.task_panels, s.panels.count);
  const int64_t tile0 = block * f.block, tiles = min_of(f.block, f.tiles.count - tile0);
  const Room room = room_of(s, f, static_cast<char*>(scratch), nullptr);
  zero_run(room.zeros, round_up(s.ic, L));
  for (int64_t t = 0; t < tiles; ++t)
    winograd_source(s, x, extras.source, winograd_place(f.tiles, tile0 + t), room.zeros,
                    [&](auto load_pixels) { put_source(s, f, load_pixels, room.source + t * s.ic); });
  float* part = extras.parts ? extras.parts + block * parts(s).step : nullptr;
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
    winograd_outputs(s, f.tiles, tile0, tiles, s.panels.begin(panel), s.panels.columns(panel), room.products,
                     f.product_step, width, extras, x, w, y, part);
  }
}

WinogradWay way_of(const Sweep<float>& s) {
  if (winograd_splits(s)) return winograd_split_way();
  return {pack_tasks, packed_bytes, pack, tasks, scratch_bytes, parts, run};
}

}  // namespace

WinogradParts winograd_parts(const Sweep<float>& s) { return way_of(s).parts(s); }

void winograd_run(const Sweep<float>& s, const float* x, const WinogradExtras& extras,
                  const WeightsAt<float>& w, const void* packed, float* y, void* scratch, int64_t task) {
  way_of(s).run(s, x, extras, w, packed, y, scratch, task);
}

bool winograd_fills(int64_t rows, int64_t columns) {
  const int64_t tiles = ceil_div(rows, kWinogradOut) * ceil_div(columns, kWinogradOut);
  return 10 * rows * columns >= 6 * kWinogradOut * kWinogradOut * tiles;
}

bool winograd_suits(int64_t in, int64_t out, int64_t rows, int64_t columns) {
  const int64_t tiles = ceil_div(rows, kWinogradOut) * ceil_div(columns, kWinogradOut);
  // Transforms must be repaid: those of pixels by the channels, those of the weights by the tiles.
  return in >= 16 && out >= 16 && in * out <= tiles * kMostWeights && winograd_fills(rows, columns);
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
SweepWay<float> winograd_way(const Sweep<float>& s) {
  const WinogradWay way = way_of(s);
  return {way.pack_tasks,
          way.packed_bytes,
          way.pack,
          way.tasks,
          way.scratch,
          [](const Sweep<float>& sweep, const float* x, const WeightsAt<float>& w, const void* packed,
             const float* bias, int64_t relu, float* y, void* scratch, int64_t task) {
            WinogradExtras extras{};
            extras.bias = bias, extras.relu = relu;
            winograd_run(sweep, x, extras, w, packed, y, scratch, task);
          }};
}

template <>
bool winograd_pays(const Sweep<double>&) {
  return false;
}
template <>
SweepWay<double> winograd_way(const Sweep<double>&) {
  return {};
}

}  // namespace cnnmath::CNNMATH_ISA
