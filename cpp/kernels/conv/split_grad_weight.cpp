// conv2d_grad_weight in float32 on a matrix unit for bfloat16 (kernels/tile/split.h).
//
// Pixels are the depth. x is laid out as one line of pixels, padded row behind padded row, so that a tap is a distance along the
// line, in pairs from the even and from the odd pixels on (split_pixels_b), so that every distance is one of whole rows. With a stride,
// each class of pixels that taps meet has a line: those as far from the first pixel, modulo the stride. dy is laid along the same line,
// with zeros where the padding is. A task sums a few panels of outputs of dW over a chunk of the
// rows of y, piece by piece, in tiles [outputs][channels] in the workspace; phase 1 adds the chunks in order and turns the
// tiles. Channels and outputs that held what cannot be split are summed term by term there.
#include "kernels/conv/parts.h"
#include "kernels/tile/split.h"
#include "simd/cut.h"
#include "simd/whole.h"

#if defined(__AMX_BF16__)
namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kPiece = 1100;             // pixels of a piece, at most
constexpr int64_t kPieceBytes = 1200 << 10;  // of both operands, split
constexpr int64_t kTasks = 32;               // as many as keep the threads of a small machine busy to the end
constexpr int64_t kLeastPixels = 1024;       // of a chunk
constexpr int64_t kPartialBytes = 16 << 20;
constexpr int64_t kPanelTiles = 2;

// How the work is cut, from the shape alone.
struct Plan {
  int64_t v_classes, u_classes;  // of rows, of columns of x
  int64_t pitch;                 // pixels from row to row of the lines
  int64_t halo;                  // rows of x beyond those of y
  bool odd;                      // there are taps at odd distances
  int64_t rows, row_blocks;      // of y in a segment, cut within an image
  int64_t segments;              // of all images
  int64_t piece;                 // segments of a piece
  int64_t blocks;                // of k in a segment
  int64_t segment;               // pixels of x in a segment
  int64_t in_tiles, out_tiles;   // of 16 channels of x, of y
  int64_t taps;
  int64_t unit_panels, out_units;  // pairs of tiles of outputs of a task
  int64_t unit_tiles, in_units;    // tiles of channels of a task
  int64_t chunks;                  // of the segments
  int64_t units() const { return out_units * in_units; }
  int64_t panels() const { return ceil_div(out_tiles, kPanelTiles); }
  int64_t tiles() const { return taps * out_tiles * in_tiles; }      // of dW
  int64_t partial() const { return chunks * tiles() * kSplitTile; }  // bytes
  int64_t flags() const { return round_up((in_tiles + out_tiles) * chunks * units() * 4, 64); }
  int64_t tile_at(int64_t tap, int64_t out, int64_t in) const {
    return (tap * out_tiles + out) * in_tiles + in;
  }
  // Of a piece. Lines of dy an odd number of cache lines apart do not share cache sets.
  int64_t x_parity() const { return piece * segment / 2 * 64; }   // bytes
  int64_t x_plane() const { return (odd ? 2 : 1) * x_parity(); }  // bytes
  int64_t x_class() const { return unit_tiles * 3 * x_plane(); }  // bytes
  int64_t classes() const { return v_classes * u_classes; }
  int64_t y_line() const { return (piece * blocks / 2 * 2 + 1) * kSplitDepth; }
  int64_t y_plane() const { return unit_panels * kPanelTiles * kSplitLanes * y_line(); }
};

// Taps of this number on have the rests, by the stride, of those before.
int64_t classes(int64_t taps, int64_t stride, int64_t dilation) {
  int64_t period = 1;
  while (period * dilation % stride != 0) ++period;
  return min_of(taps, period);
}

Plan plan(const ConvShape& s) {
  Plan f{};
  f.taps = s.kh * s.kw;
  f.v_classes = classes(s.kh, s.sh, s.dh);
  f.u_classes = classes(s.kw, s.sw, s.dw);
  f.pitch = s.ow + (s.kw - 1) * s.dw / s.sw;
  f.halo = (s.kh - 1) * s.dh / s.sh;
  for (int64_t j = 0; j < s.kw; ++j) f.odd |= j * s.dw / s.sw % 2 != 0;
  if (!f.odd) f.pitch = round_up(f.pitch, 2);
  // Pixels of a piece: what they take of L2 grows with the channels.
  const int64_t pixel_bytes = 12 * f.classes() * min_of(s.c, 256) + 6 * min_of(s.oc, 256);
  const int64_t piece = max_of(min_of(kPieceBytes / pixel_bytes, kPiece), 256 / f.classes());
  f.rows = max_of(min_of(piece / f.pitch, s.oh), 1);
  f.row_blocks = ceil_div(s.oh, f.rows);
  f.rows = ceil_div(s.oh, f.row_blocks);
  f.row_blocks = ceil_div(s.oh, f.rows);
  f.segments = s.n * f.row_blocks;
  f.blocks = ceil_div((f.rows - 1) * f.pitch + s.ow, kSplitDepth);
  f.segment = round_up(
      max_of((f.rows + f.halo) * f.pitch, f.blocks * kSplitDepth + f.halo * f.pitch + f.pitch - s.ow),
      kSplitDepth);
  f.in_tiles = ceil_div(s.c, kSplitLanes);
  f.out_tiles = ceil_div(s.oc, kSplitLanes);
  // Chunks as long as the partial sums are cheap to add; then panels by themselves.
  const int64_t bytes = f.tiles() * kSplitTile, pixels = f.segments * f.blocks * kSplitDepth;
  f.chunks =
      max_of(min_of(min_of(min_of(kTasks, kPartialBytes / bytes), pixels / kLeastPixels), f.segments), 1);
  f.unit_panels = max_of(ceil_div(f.panels() * f.chunks, kTasks), min_of(f.panels(), 4));
  f.out_units = ceil_div(f.panels(), f.unit_panels);
  const int64_t parts = ceil_div(kTasks / 2, f.chunks * f.out_units);
  f.unit_tiles = max_of(round_up(ceil_div(f.in_tiles, parts), 2), min_of(f.in_tiles, 4));
  f.in_units = ceil_div(f.in_tiles, f.unit_tiles);
  f.piece = max_of(min_of(piece / (f.blocks * kSplitDepth), ceil_div(f.segments, f.chunks)), 1);
  return f;
}

struct Room {
  char* x;       // [class][tile of channels][plane][even, odd][pair]
  uint16_t* dy;  // [plane][output][pixel]
  int64_t* a_offset;
  int64_t* b_offset;
};

Room room_of(const Plan& f, char* memory, int64_t* bytes) {
  Room room{};
  Cut cut(memory);
  cut.take(room.x, f.classes() * f.x_class());
  cut.take(room.dy, 3 * f.y_plane());
  cut.take(room.a_offset, f.piece * f.blocks);
  cut.take(room.b_offset, f.piece * f.blocks);
  if (bytes) *bytes = cut.bytes();
  return room;
}

// Segment `index` of x, from pixel `at` of the line of class (i, j) on, tiles of channels [tile0, tile1).
void line_of_x(const ConvShape& s, const Plan& f, const float* x, int64_t i, int64_t j, int64_t index,
               int64_t at, int64_t tile0, int64_t tile1, const Room& room, uint32_t* wild) {
  const int64_t y0 = index % f.row_blocks * f.rows, rows = min_of(f.rows, s.oh - y0) + f.halo;
  const int64_t row0 = y0 * s.sh - s.pt + i * s.dh % s.sh, column0 = j * s.dw % s.sw - s.pl;
  char* const line = room.x + (i * f.u_classes + j) * f.x_class();
  const float* image = x + index / f.row_blocks * s.h * s.w * s.c;
  const auto pixel = [&](int64_t row, int64_t column) -> const float* {
    const int64_t r = row0 + row * s.sh, q = column0 + column * s.sw;
    return row < rows && r >= 0 && r < s.h && q >= 0 && q < s.w ? image + (r * s.w + q) * s.c : nullptr;
  };
  int64_t row = 0, column = 0;
  for (int64_t begin = 0; begin < f.segment; begin += kSplitDepth) {
    const float* pixels[kSplitDepth + 1];
    for (int64_t i = 0; i < kSplitDepth; ++i) {
      pixels[i] = pixel(row, column);
      if (++column == f.pitch) column = 0, ++row;
    }
    pixels[kSplitDepth] = pixel(row, column);
    // The next ones: a slice of a pixel at a time, they come too slowly by themselves.
    for (int64_t i = 0; i < kSplitDepth; ++i)
      for (int64_t c = tile0 * kSplitLanes; pixels[i] && c < min_of(tile1 * kSplitLanes, s.c);
           c += kSplitLanes)
        __builtin_prefetch(pixels[i] + kSplitDepth * s.sw * s.c + c);
    for (int64_t tile = tile0; tile < tile1; ++tile) {
      const float* here[kSplitDepth + 1];
      for (int64_t i = 0; i <= kSplitDepth; ++i)
        here[i] = pixels[i] ? pixels[i] + tile * kSplitLanes : nullptr;
      char* even = line + (tile - tile0) * 3 * f.x_plane() + (at + begin) / 2 * 64;
      wild[tile] |= split_pixels_b(even, f.odd ? even + f.x_parity() : nullptr, f.x_plane(), here,
                                   kSplitDepth / 2, min_of(s.c - tile * kSplitLanes, kSplitLanes));
    }
  }
}

// Segment `index` of dy, from pixel `at` of the lines, tiles of outputs [tile0, tile1).
void lines_of_dy(const ConvShape& s, const Plan& f, const float* dy, int64_t index, int64_t at, int64_t tile0,
                 int64_t tile1, const Room& room, uint32_t* wild) {
  const int64_t row0 = index % f.row_blocks * f.rows, rows = min_of(f.rows, s.oh - row0);
  const float* base = dy + (index / f.row_blocks * s.oh + row0) * s.ow * s.oc;
  int64_t row = 0, column = 0;
  for (int64_t block = 0; block < f.blocks; ++block, at += kSplitDepth) {
    const float* pixels[kSplitDepth];
    for (int64_t i = 0; i < kSplitDepth; ++i) {
      pixels[i] = row < rows && column < s.ow ? base + (row * s.ow + column) * s.oc : nullptr;
      if (++column == f.pitch) column = 0, ++row;
    }
    for (int64_t tile = tile0; tile < tile1; ++tile) {
      const float* here[kSplitDepth];
      for (int64_t i = 0; i < kSplitDepth; ++i)
        here[i] = pixels[i] ? pixels[i] + tile * kSplitLanes : nullptr;
      wild[tile] |= split_pixels_a(room.dy + (tile - tile0) * kSplitLanes * f.y_line() + at, f.y_line(),
                                   f.y_plane(), here, min_of(s.oc - tile * kSplitLanes, kSplitLanes));
    }
  }
}

uint32_t* flags_of(const Plan& f, void* workspace, int64_t chunk, int64_t unit) {
  return reinterpret_cast<uint32_t*>(static_cast<char*>(workspace) + f.partial()) +
         (chunk * f.units() + unit) * (f.in_tiles + f.out_tiles);
}

void sum_unit(const ConvShape& s, const Plan& f, const float* x, const float* dy, void* workspace,
              char* scratch, int64_t chunk, int64_t unit) {
  const Room room = room_of(f, scratch, nullptr);
  uint32_t* wild = flags_of(f, workspace, chunk, unit);
  for (int64_t i = 0; i < f.in_tiles + f.out_tiles; ++i) wild[i] = 0;
  const int64_t from = f.segments * chunk / f.chunks, to = f.segments * (chunk + 1) / f.chunks;
  const int64_t panel0 = unit % f.out_units * f.unit_panels,
                panel1 = min_of(panel0 + f.unit_panels, f.panels());
  const int64_t tile0 = unit / f.out_units * f.unit_tiles, tile1 = min_of(tile0 + f.unit_tiles, f.in_tiles);
  float* sums = static_cast<float*>(workspace) + chunk * f.tiles() * kSplitNumbers;
  const SplitUnit matrix_unit;
  for (int64_t begin = from; begin < to; begin += f.piece) {
    const int64_t count = min_of(f.piece, to - begin);
    for (int64_t k = 0; k < count; ++k) {
      for (int64_t i = 0; i < f.v_classes; ++i)
        for (int64_t j = 0; j < f.u_classes; ++j)
          line_of_x(s, f, x, i, j, begin + k, k * f.segment, tile0, tile1, room, wild);
      lines_of_dy(s, f, dy, begin + k, k * f.blocks * kSplitDepth, panel0 * kPanelTiles,
                  min_of(panel1 * kPanelTiles, f.out_tiles), room, wild + f.in_tiles);
      for (int64_t b = 0; b < f.blocks; ++b) {
        room.a_offset[k * f.blocks + b] = (k * f.blocks + b) * kSplitDepth * 2;
        room.b_offset[k * f.blocks + b] = (k * f.segment + b * kSplitDepth) / 2 * 64;
      }
    }
    for (int64_t panel = panel0; panel < panel1; ++panel) {
      const int height = static_cast<int>(min_of(f.out_tiles - panel * kPanelTiles, kPanelTiles));
      const char* a[2];
      for (int64_t r = 0; r < height; ++r)
        a[r] = reinterpret_cast<const char*>(room.dy +
                                             ((panel - panel0) * kPanelTiles + r) * kSplitLanes * f.y_line());
      for (int64_t tap = 0; tap < f.taps; ++tap) {
        const int64_t i = tap / s.kw, j = tap % s.kw;
        const int64_t distance = i * s.dh / s.sh * f.pitch + j * s.dw / s.sw;
        const char* line = room.x + (i % f.v_classes * f.u_classes + j % f.u_classes) * f.x_class();
        for (int64_t tile = tile0; tile < tile1; tile += 2) {
          const int64_t width = min_of(tile1 - tile, 2);
          const SplitCall call{
              count * f.blocks,
              room.a_offset,
              f.y_line() * 2,
              f.y_plane() * 2,
              line + (tile - tile0) * 3 * f.x_plane() + distance % 2 * f.x_parity() + distance / 2 * 64,
              room.b_offset,
              3 * f.x_plane(),
              f.x_plane(),
              begin > from};
          float* c[2];
          for (int64_t r = 0; r < height; ++r)
            c[r] = sums + f.tile_at(tap, panel * kPanelTiles + r, tile) * kSplitNumbers;
          split_tile(height, static_cast<int>(width))(a, c, call);
        }
      }
    }
  }
}

// One tap and 16 channels of dW, all outputs.
void combine(const ConvShape& s, const Plan& f, const float* x, const float* dy, float* dw, void* workspace,
             int64_t index) {
  const int64_t tap = index / f.in_tiles, tile = index % f.in_tiles;
  const float* sums = static_cast<const float*>(workspace);
  uint32_t wild_in = 0;
  for (int64_t part = 0; part < f.chunks * f.units(); ++part)
    wild_in |= flags_of(f, workspace, 0, part)[tile];
  for (int64_t out = 0; out < f.out_tiles; ++out) {
    const int64_t o = out * kSplitLanes, lanes = min_of(s.oc - o, kSplitLanes);
    uint32_t wild_out = 0;
    for (int64_t part = 0; part < f.chunks * f.units(); ++part)
      wild_out |= flags_of(f, workspace, 0, part)[f.in_tiles + out];
    const float* first = sums + f.tile_at(tap, out, tile) * kSplitNumbers;
    Vec<float> square[kSplitLanes];
    for (int64_t r = 0; r < kSplitLanes; ++r) {
      square[r] = load(first + r * kSplitLanes);
      for (int64_t chunk = 1; chunk < f.chunks; ++chunk)
        square[r] = square[r] + load(first + chunk * f.tiles() * kSplitNumbers + r * kSplitLanes);
    }
    transpose(square);
    for (int64_t r = 0; r < min_of(s.c - tile * kSplitLanes, kSplitLanes); ++r) {
      const int64_t c = tile * kSplitLanes + r;
      float* to = dw + (tap * s.c + c) * s.oc + o;
      store_n(to, square[r], lanes);
      const uint32_t wild = wild_in >> r & 1 ? 0xffff : wild_out;
      if (!wild) continue;
      float exact[kSplitLanes];
      store(exact, grad_weight_numbers(s, x, dy, tap / s.kw, tap % s.kw, c, o, lanes));
      for (int64_t lane = 0; lane < lanes; ++lane)
        if (wild >> lane & 1) to[lane] = exact[lane];
    }
  }
}

int phases(const int64_t*) { return 2; }
int64_t tasks(const int64_t* p, int phase) {
  const Plan f = plan(conv_shape(p));
  return phase == 0 ? f.units() * f.chunks : f.taps * f.in_tiles;
}
int64_t workspace(const int64_t* p) {
  const Plan f = plan(conv_shape(p));
  return f.partial() + f.flags();
}
int64_t scratch(const int64_t* p) {
  int64_t bytes = 0;
  room_of(plan(conv_shape(p)), nullptr, &bytes);
  return bytes;
}
void run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const Plan f = plan(s);
  const float *x = static_cast<const float*>(t.a[0]), *dy = static_cast<const float*>(t.a[1]);
  if (t.phase == 0)
    sum_unit(s, f, x, dy, t.workspace, static_cast<char*>(t.scratch), t.index % f.chunks, t.index / f.chunks);
  else
    combine(s, f, x, dy, static_cast<float*>(t.a[2]), t.workspace, t.index);
}

}  // namespace

template <>
bool split_grad_weight_pays<float>(const ConvShape& s) {
  if (s.groups != 1 || s.n <= 0 || s.oh <= 0 || s.ow <= 0 || s.kh <= 0 || s.kw <= 0 ||
      conv_flops(s) <= kSmallFlops)
    return false;
  // Nanoseconds for an image, as measured on one core: what a product costs (padding too), and a number of x and of dy to split; and by
  // vectors, whose lanes have the outputs, or the inputs where there are few outputs.
  const Plan f = plan(s);
  const int64_t in = f.in_tiles * kSplitLanes, out = f.out_tiles * kSplitLanes;
  const int64_t pixels = f.row_blocks * f.blocks * kSplitDepth;
  const double split = 0.0056 * static_cast<double>(pixels * f.taps * in * out) +
                       0.48 * static_cast<double>(f.row_blocks * f.segment * f.classes() * in) +
                       0.29 * static_cast<double>(pixels * out);
  const double products = static_cast<double>(s.oh * s.ow * f.taps * s.c);
  const double vectors = s.oc < kSplitLanes
                             ? products * static_cast<double>(s.oc) / (merges_taps(s) ? 60 : 44)
                             : products * static_cast<double>(out) / (out > kSplitLanes ? 88 : 55);
  return split < vectors;
}

template <>
ConvPart split_grad_weight_part<float>() {
  return {phases, tasks, workspace, scratch, run};
}

}  // namespace cnnmath::CNNMATH_ISA
#else
namespace cnnmath::CNNMATH_ISA {

template <>
bool split_grad_weight_pays<float>(const ConvShape&) {
  return false;
}
template <>
ConvPart split_grad_weight_part<float>() {
  return {};
}

}  // namespace cnnmath::CNNMATH_ISA
#endif

namespace cnnmath::CNNMATH_ISA {

template <>
bool split_grad_weight_pays<double>(const ConvShape&) {
  return false;
}
template <>
ConvPart split_grad_weight_part<double>() {
  return {};
}

}  // namespace cnnmath::CNNMATH_ISA
