#include "kernels/conv/split_sweep.h"

#if defined(__AMX_BF16__)
#include "kernels/tile/split.h"
#include "simd/cut.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kTaskFlops = 16 << 20;     // about 50 us
constexpr int64_t kTaskPixels = 256;         // repay reading the weights
constexpr int64_t kTaskSource = 1200 << 10;  // bytes of split source that should stay in L2
constexpr int64_t kPiece = 64;               // blocks of k: their weights for a panel stay in L2
constexpr int64_t kPanelTiles = 2;
constexpr int64_t kPitch = 16;  // numbers: half a cache line of a plane

// How the work is cut, from the shape alone.
struct Plan {
  int64_t pitch;       // numbers from pixel to pixel of the copied source
  bool merged;         // taps next to each other in memory are one run
  int64_t runs, run;   // of k: their number, their length
  int64_t run_blocks;  // blocks of a run
  int64_t tiles;       // of 16 outputs
  int64_t task_panels, panel_blocks;
  int64_t rows, row_blocks;      // output rows of a task, cut within an image,
  int64_t images, image_blocks;  // or several images
  int64_t source_rows, source_columns;
  bool flat;                  // rows of the copy are one line of pixels
  int64_t segments, segment;  // lines of pixels in a task, their length
  int64_t blocks() const { return runs * run_blocks; }
  int64_t panels() const { return ceil_div(tiles, kPanelTiles); }
  int64_t segment_tiles() const { return ceil_div(segment, kSplitLanes); }
  int64_t pixel_tiles() const { return segments * segment_tiles(); }
  int64_t piece() const { return ceil_div(blocks(), ceil_div(blocks(), kPiece)); }
};

Plan plan(const Sweep<float>& s) {
  Plan f{};
  f.merged = s.u.taps == 1 || s.u.offset_step == 1;
  f.runs = f.merged ? s.v.taps : s.v.taps * s.u.taps;
  const auto run_of = [&](int64_t pitch) { return (f.merged ? (s.u.taps - 1) * pitch : 0) + s.ic; };
  // Rows of a tile that begin anywhere cost half as much again as those that do not cross cache lines.
  f.pitch = round_up(s.ic, kPitch);
  if (10 * ceil_div(run_of(f.pitch), kSplitDepth) > 13 * ceil_div(run_of(s.ic), kSplitDepth)) f.pitch = s.ic;
  f.run = run_of(f.pitch);
  f.run_blocks = ceil_div(f.run, kSplitDepth);
  f.tiles = ceil_div(s.oc, kSplitLanes);
  f.source_columns = s.u.source_end(s.u.outs) - s.u.source_begin(0);
  const auto source_rows = [&](int64_t rows) { return s.v.source_end(rows) - s.v.source_begin(0); };
  // Padded rows as one line waste their padding, rows by themselves the rest of their last tile.
  f.flat = s.u.source_step == 1 && s.v.source_step == 1 && f.source_columns < round_up(s.u.outs, kSplitLanes);
  const int64_t pixel_flops = 2 * f.blocks() * kSplitDepth * f.tiles * kSplitLanes;
  const int64_t row_bytes = 6 * f.source_columns * f.pitch;
  const int64_t pixels = max_of(kTaskFlops / pixel_flops, kTaskPixels);
  f.rows = max_of(pixels / s.u.outs, 1);
  const int64_t halo = source_rows(1) - s.v.source_step;
  f.rows = min_of(f.rows, max_of((kTaskSource / row_bytes - halo) / s.v.source_step, 1));
  f.rows = min_of(f.rows, s.v.outs);
  f.row_blocks = ceil_div(s.v.outs, f.rows);
  f.rows = ceil_div(s.v.outs, f.row_blocks);
  f.images = 1;
  if (f.row_blocks == 1) {
    f.images = pixels / (s.u.outs * f.rows);
    f.images = max_of(min_of(min_of(f.images, kTaskSource / (row_bytes * source_rows(f.rows))), s.n), 1);
  }
  f.image_blocks = ceil_div(s.n, f.images);
  f.images = ceil_div(s.n, f.image_blocks);
  f.source_rows = source_rows(f.rows);
  f.segments = f.flat ? f.images : f.images * f.rows;
  f.segment = f.flat ? (f.rows - 1) * f.source_columns + s.u.outs : s.u.outs;
  // All panels share the splitting of the source, unless that leaves too few tasks.
  f.panel_blocks = min_of(ceil_div(8, f.image_blocks * f.row_blocks), f.panels());
  f.task_panels = ceil_div(f.panels(), f.panel_blocks);
  f.panel_blocks = ceil_div(f.panels(), f.task_panels);
  return f;
}

// Scratch of a task.
struct Pixel {
  float* y;  // null: not a pixel of y
  int64_t image, t, q;
};
struct Room {
  uint16_t* source;       // [plane][image][row][column][channel]
  int64_t plane;          // numbers from plane to plane
  float* sums;            // [tile of pixels][tile of outputs]
  const uint16_t** tile;  // where each tile of pixels begins in the source
  Pixel* out;             // each pixel of each tile
  int64_t* a_offset;      // of each block
  int64_t* b_offset;
  uint8_t* map;  // 1: this pixel of the source has a number that cannot be split, or a NaN
};

int64_t pixels_in(const Plan& f) { return f.images * f.source_rows * f.source_columns; }
// Tiles reach beyond the last pixel, and blocks beyond the last channel.
int64_t slack(const Sweep<float>& s, const Plan& f) {
  return kSplitLanes * s.u.source_step * f.pitch + kSplitDepth;
}
int64_t plane_of(const Sweep<float>& s, const Plan& f) {
  return round_up(pixels_in(f) * f.pitch + slack(s, f), 32);
}

Room room_of(const Sweep<float>& s, const Plan& f, char* memory, int64_t* bytes) {
  Room room{};
  Cut cut(memory);
  room.plane = plane_of(s, f);
  cut.take(room.source, 3 * room.plane);
  cut.take(room.sums, f.pixel_tiles() * kPanelTiles * kSplitNumbers);
  cut.take(room.tile, f.pixel_tiles());
  cut.take(room.out, f.pixel_tiles() * kSplitLanes);
  cut.take(room.a_offset, f.blocks());
  cut.take(room.b_offset, f.blocks());
  cut.take(room.map, pixels_in(f));
  if (bytes) *bytes = cut.bytes();
  return room;
}

void zero_planes(const Room& room, int64_t at, int64_t n) {
  for (int p = 0; p < 3; ++p) {
    uint16_t* to = room.source + p * room.plane + at;
    for (int64_t i = 0; i < n; ++i) to[i] = 0;
  }
}

// Rows [from, to) of one image's channels from `image` on, split, zeros outside the map. Tells whether some number could not be split.
bool copy_source(const Sweep<float>& s, const Plan& f, const float* image, int64_t from, int64_t to,
                 const Room& room, int64_t pixel) {
  const int64_t left = s.u.source_begin(0), columns = f.source_columns;
  const int64_t begin = min_of(max_of(-left, 0), columns);  // first column inside the map
  const int64_t end = max_of(min_of(s.w - left, columns), begin);
  bool found = false;
  const int64_t pitch = f.pitch;
  for (int64_t r = from; r < to; ++r, pixel += columns) {
    if (r < 0 || r >= s.h || begin == end) {
      zero_planes(room, pixel * pitch, columns * pitch);
      continue;
    }
    const float* row = image + (r * s.w + left + begin) * s.c;
    zero_planes(room, pixel * pitch, begin * pitch);
    const int64_t n = (end - begin) * s.ic, runs = pitch == s.ic && s.groups == 1 ? 1 : end - begin;
    if (split_runs(room.source + (pixel + begin) * pitch, room.plane, row, runs, s.c, n / runs,
                   n / runs + pitch - s.ic)) {
      found = true;
      for (int64_t i = 0; i < n; ++i)
        if (!splits(row[i / s.ic * s.c + i % s.ic])) room.map[pixel + begin + i / s.ic] = 1;
    }
    zero_planes(room, (pixel + end) * pitch, (columns - end) * pitch);
  }
  return found;
}

// Whether the window of a pixel met a mark.
bool marked(const Sweep<float>& s, const Plan& f, const uint8_t* map, int64_t row, int64_t q) {
  for (int64_t a = 0; a < s.v.taps; ++a)
    for (int64_t b = 0; b < s.u.taps; ++b)
      if (map[(row + a * s.v.offset_step) * f.source_columns + q * s.u.source_step + b * s.u.offset_step])
        return true;
  return false;
}

// Outputs [o, o + n) of a pixel whose window or weights held what cannot be split.
void mend(const Sweep<float>& s, const Plan& f, const WeightsAt<float>& w, const float* x, const Room& room,
          const Pixel& pixel, int64_t image0, int64_t row0, int64_t o, int64_t n, bool wild, uint32_t wild_o,
          float* sums) {
  const int64_t row = (pixel.image - image0) * f.source_rows + (pixel.t - row0) * s.v.source_step;
  const bool all = wild && marked(s, f, room.map, row, pixel.q);
  if (!all && !wild_o) return;
  float exact[kSplitLanes];
  store(exact, sweep_numbers(s, w, x, pixel.image, pixel.t, pixel.q, o, n));
  for (int64_t l = 0; l < n; ++l)
    if (all || (wild_o >> l & 1)) sums[l] = exact[l];
}

// Packed weights of a group: tiles, and which of their outputs hold what cannot be split.
int64_t group_bytes(const Plan& f) { return f.tiles * f.blocks() * kSplitBlock + round_up(f.tiles * 4, 64); }
const uint32_t* wild_outputs(const Plan& f, const char* packed) {
  return reinterpret_cast<const uint32_t*>(packed + f.tiles * f.blocks() * kSplitBlock);
}

int64_t split_tasks(const Sweep<float>& s) {
  const Plan f = plan(s);
  return s.groups * f.panel_blocks * f.image_blocks * f.row_blocks;
}

int64_t split_pack_tasks(const Sweep<float>& s) { return s.groups * plan(s).tiles; }

int64_t split_packed_bytes(const Sweep<float>& s) { return s.groups * group_bytes(plan(s)); }

int64_t split_scratch(const Sweep<float>& s) {
  int64_t bytes = 0;
  room_of(s, plan(s), nullptr, &bytes);
  return bytes;
}

void split_pack(const Sweep<float>& s, const WeightsAt<float>& w, void* out, int64_t task) {
  const Plan f = plan(s);
  const int64_t group = task / f.tiles, tile = task % f.tiles;
  char* packed = static_cast<char*>(out) + group * group_bytes(f);
  const int64_t panel = tile / kPanelTiles, width = min_of(f.tiles - panel * kPanelTiles, kPanelTiles);
  const int64_t o0 = tile * kSplitLanes, outs = min_of(s.oc - o0, kSplitLanes);
  char* to = packed + (panel * kPanelTiles * f.blocks() + tile % kPanelTiles) * kSplitBlock;
  uint32_t wild = 0;
  for (int64_t r = 0; r < f.runs; ++r) {
    const int64_t a = f.merged ? r : r / s.u.taps, b = f.merged ? 0 : r % s.u.taps;
    const float* base = w.tap(s, a, b) + group * w.group_step + o0 * w.o_step;
    for (int64_t l = 0; l < f.run; l += kSplitDepth, to += width * kSplitBlock) {
      const int64_t depth = min_of(f.run - l, kSplitDepth);
      const auto at = [&](int64_t k) {
        return base + k / f.pitch * s.u.tap_step * w.tap_step + k % f.pitch * w.k_step;
      };
      if (s.ic % kSplitDepth == 0) {
        wild |= split_b(to, at(l), w.o_step == 1 ? Lie::along_i : Lie::along_k,
                        w.o_step == 1 ? w.k_step : w.o_step, outs, depth, Pairs::neighbours);
        continue;
      }
      float rows[kSplitDepth * kSplitLanes];
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t o = 0; o < outs; ++o)
          rows[k * kSplitLanes + o] = (l + k) % f.pitch < s.ic ? at(l + k)[o * w.o_step] : 0.0f;
      wild |= split_b(to, rows, Lie::along_i, kSplitLanes, outs, depth, Pairs::neighbours);
    }
  }
  const_cast<uint32_t*>(wild_outputs(f, packed))[tile] = wild;
}

void split_run(const Sweep<float>& s, const float* x, const WeightsAt<float>& weights_at,
               const void* weights_packed, const float* bias, int64_t relu, float* y, void* scratch,
               int64_t task) {
  const Plan f = plan(s);
  // The arrays from the channels of a group on.
  const int64_t group = task % s.groups;
  task /= s.groups;
  x += group * s.ic, y += group * s.oc;
  if (bias) bias += group * s.oc;
  WeightsAt<float> w = weights_at;
  w.base += group * w.group_step;
  const char* packed = static_cast<const char*>(weights_packed) + group * group_bytes(f);
  const int64_t panel0 = task % f.panel_blocks * f.task_panels,
                panel1 = min_of(panel0 + f.task_panels, f.panels());
  const int64_t rest = task / f.panel_blocks;
  const int64_t row0 = rest % f.row_blocks * f.rows, row1 = min_of(row0 + f.rows, s.v.outs);
  const int64_t image0 = rest / f.row_blocks * f.images, image1 = min_of(image0 + f.images, s.n);
  const Room room = room_of(s, f, static_cast<char*>(scratch), nullptr);

  const int64_t image_pixels = f.source_rows * f.source_columns;
  for (int64_t i = 0; i < pixels_in(f); ++i) room.map[i] = 0;
  bool wild = false;
  for (int64_t image = image0; image < image1; ++image)
    wild |= copy_source(s, f, x + image * s.h * s.w * s.c, s.v.source_begin(row0), s.v.source_end(row1), room,
                        (image - image0) * image_pixels);
  const int64_t tail =
      ((image1 - image0 - 1) * f.source_rows + s.v.source_end(row1) - s.v.source_begin(row0)) *
      f.source_columns * f.pitch;
  zero_planes(room, tail, slack(s, f));

  // Where the pixels of each tile begin in the copy, and where they go.
  const int64_t used_rows = row1 - row0, lines = f.flat ? 1 : used_rows;
  const int64_t segment = f.flat ? (used_rows - 1) * f.source_columns + s.u.outs : s.u.outs;
  const int64_t segment_tiles = ceil_div(segment, kSplitLanes),
                pixel_tiles = (image1 - image0) * lines * segment_tiles;
  const int64_t step = s.u.source_step, channels = s.groups * s.oc;
  for (int64_t i = 0; i < pixel_tiles * kSplitLanes; ++i) room.out[i].y = nullptr;
  int64_t first = 0;
  for (int64_t image = image0; image < image1; ++image) {
    for (int64_t line = 0; line < lines; ++line) {
      const int64_t pixel = (image - image0) * image_pixels + line * s.v.source_step * f.source_columns;
      for (int64_t i = 0; i < segment_tiles; ++i)
        room.tile[first / kSplitLanes + i] = room.source + (pixel + i * kSplitLanes * step) * f.pitch;
      for (int64_t t = f.flat ? 0 : line; t < (f.flat ? used_rows : line + 1); ++t) {
        Pixel* out = room.out + first + (f.flat ? t * f.source_columns : 0);
        float* to =
            y + ((image * s.out_h + s.v.out_begin + (row0 + t) * s.v.out_step) * s.out_w + s.u.out_begin) *
                    channels;
        for (int64_t q = 0; q < s.u.outs; ++q)
          out[q] = {to + q * s.u.out_step * channels, image, row0 + t, q};
      }
      first += segment_tiles * kSplitLanes;
    }
  }
  for (int64_t r = 0; r < f.runs; ++r) {
    const int64_t a = f.merged ? r : r / s.u.taps, b = f.merged ? 0 : r % s.u.taps;
    const int64_t at = (a * s.v.offset_step * f.source_columns + b * s.u.offset_step) * f.pitch * 2;
    for (int64_t q = 0; q < f.run_blocks; ++q) room.a_offset[r * f.run_blocks + q] = at + q * kSplitDepth * 2;
  }

  const SplitUnit unit;
  for (int64_t panel = panel0; panel < panel1; ++panel) {
    const int64_t width = min_of(f.tiles - panel * kPanelTiles, kPanelTiles), blocks = f.blocks();
    for (int64_t block = 0; block < blocks; ++block) room.b_offset[block] = block * width * kSplitBlock;
    const char* weights = packed + panel * kPanelTiles * blocks * kSplitBlock;
    for (int64_t from = 0; from < blocks; from += f.piece()) {
      const SplitCall call{min_of(f.piece(), blocks - from),
                           room.a_offset + from,
                           step * f.pitch * 2,
                           room.plane * 2,
                           weights,
                           room.b_offset + from,
                           kSplitBlock,
                           kSplitTile,
                           from > 0};
      for (int64_t tile = 0; tile < pixel_tiles;) {
        const int ma = pixel_tiles - tile >= 2 ? 2 : 1;
        const char* a[2];
        float* c[2];
        for (int i = 0; i < ma; ++i) {
          a[i] = reinterpret_cast<const char*>(room.tile[tile + i]);
          c[i] = room.sums + (tile + i) * width * kSplitNumbers;
          // These lines of y are far away, and lie apart.
          const Pixel* out = room.out + (tile + i) * kSplitLanes;
          for (int64_t lane = 0; from == 0 && lane < kSplitLanes; ++lane)
            for (int64_t part = 0; out[lane].y && part <= width; ++part)
              __builtin_prefetch(out[lane].y + (panel * kPanelTiles + part) * kSplitLanes, 1);
        }
        split_tile(ma, static_cast<int>(width))(a, c, call);
        tile += ma;
      }
    }
    // To y: what could not be split, bias, act.
    for (int64_t part = 0; part < width; ++part) {
      const int64_t o = (panel * kPanelTiles + part) * kSplitLanes, n = min_of(s.oc - o, kSplitLanes);
      const uint32_t wild_o = wild_outputs(f, packed)[panel * kPanelTiles + part];
      const Vec<float> b = bias ? load_n(bias + o, n) : zero<float>();
      for (int64_t tile = 0; tile < pixel_tiles; ++tile) {
        const Pixel* out = room.out + tile * kSplitLanes;
        float* sums = room.sums + (tile * width + part) * kSplitNumbers;
        for (int64_t lane = 0; lane < kSplitLanes; ++lane, sums += kSplitLanes) {
          if (!out[lane].y) continue;
          if (wild || wild_o) mend(s, f, w, x, room, out[lane], image0, row0, o, n, wild, wild_o, sums);
          Vec<float> v = load(sums) + b;
          if (relu) v = max(zero<float>(), v);
          store_n(out[lane].y + o, v, n);
        }
      }
    }
  }
}

}  // namespace

// Nanoseconds for an image, as measured on one core: what a number costs to split, to multiply (padding too), to put into y; and
// by vectors, which have few outputs in pixels' or channels' lanes.
template <>
bool split_pays(const Sweep<float>& s) {
  if (s.depth == 0 || s.n == 0 || s.u.outs <= 0 || s.v.outs <= 0) return false;
  const Plan f = plan(s);
  const int64_t lanes = f.tiles * kSplitLanes, outs = s.v.outs * s.u.outs;
  const int64_t pixels = f.row_blocks * (f.flat ? 1 : f.rows) * f.segment_tiles() * kSplitLanes;
  const int64_t source = f.row_blocks * f.source_rows * f.source_columns;
  const double split = 0.0053 * static_cast<double>(pixels * lanes * f.blocks() * kSplitDepth) +
                       0.185 * static_cast<double>(source * (f.pitch + kPitch)) +
                       0.44 * static_cast<double>(outs * s.oc);
  const double vectors =
      static_cast<double>(outs * s.depth) *
      (s.oc <= kSplitLanes ? static_cast<double>(s.oc) / 44 : static_cast<double>(lanes) / 80);
  return split < vectors;
}

template <>
SweepWay<float> split_way() {
  return {split_pack_tasks, split_packed_bytes, split_pack, split_tasks, split_scratch, split_run};
}

}  // namespace cnnmath::CNNMATH_ISA
#else
namespace cnnmath::CNNMATH_ISA {

template <>
bool split_pays(const Sweep<float>&) {
  return false;
}
template <>
SweepWay<float> split_way() {
  return {};
}

}  // namespace cnnmath::CNNMATH_ISA
#endif

namespace cnnmath::CNNMATH_ISA {

template <>
bool split_pays(const Sweep<double>&) {
  return false;
}
template <>
SweepWay<double> split_way() {
  return {};
}

}  // namespace cnnmath::CNNMATH_ISA
