// conv2d_grad_weight by Winograd, for 3 x 3 taps at distance 1:
//
//   dw = G^T [ sum over the tiles of (B^T d B) o (A dy A^T) ] G
//
// 4 x 4 pixels of dy meet 6 x 6 of x. Each of the 36 numbers is a matrix product of its own, channels x tiles times tiles x outputs.
// A task sums some tiles (a chunk) for some rows of the 6 x 6 and some outputs (a unit), whose sums stay in L2, block of tiles
// after block, on the matrix unit where there is one and channels are many; phase 1 adds the chunks in order and transforms
// back. Where there are few tiles, what the sums weigh in memory counts: then a task sums all tiles for a few channels and
// outputs, in scratch, and transforms back at once (sum_near). Sums that are not finite are done term by term.
#include "kernels/conv/parts.h"
#include "kernels/conv/winograd_ends.h"
#include "kernels/tile/split_products.h"
#include "simd/cut.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int L = Vec<float>::lanes;
constexpr int64_t kUnitBytes = 900 << 10;   // of sums: they stay in L2
constexpr int64_t kBlockBytes = 600 << 10;  // of a block of tiles, transformed
constexpr int64_t kLeastTiles = 16, kMostTiles = 64;
// On the matrix unit: tiles of a block, bytes of it with its sums, of sums alone; fewer channels do not repay splitting.
constexpr int64_t kSplitTiles = 64, kSplitBytes = 2400 << 10, kSplitUnitBytes = 1800 << 10;
constexpr int64_t kSplitLeast = 64, kSplitWeights = 64 * 128;
constexpr int64_t kChunkTiles = 512;  // repay the adding of a chunk
constexpr int64_t kTasks = 32;        // as many as keep the threads of a small machine busy to the end
constexpr int64_t kLeastTasks = 4, kLeastChunk = 128;  // tasks, tiles
constexpr int64_t kNearTiles = 64;                     // so few count as few
constexpr int64_t kNearIns = 64, kNearOuts = 32;
constexpr int64_t kNearRows = 16;  // channels whose sums stay in L1
// The same on the matrix unit, where there are many weights: it repays them even where winograd_suits says no, then for more tiles.
constexpr int64_t kNearSplitTiles = 256, kNearSplitLeast = 48, kManyWeights = 256 * 256;
constexpr int64_t kNearSplit = 128;  // channels and outputs of a task

// How the work is cut, from the shape alone.
struct Plan {
  WinogradTiles map;
  int64_t tiles;      // of all images
  int64_t outs;       // outputs, rounded up to vectors
  int64_t unit_rows;  // of the 6 x 6 points
  int64_t unit_outs, out_units;
  int64_t block;                // tiles
  int64_t chunks;               // of the tiles
  int64_t x_step, dy_step;      // numbers from point to point of a block
  bool splits;                  // products on the matrix unit
  bool near;                    // one phase, tasks over channels x outputs
  int64_t unit_ins, near_rows;  // then: channels of a task, of those whose sums are there at a time
  int64_t units() const { return 6 / unit_rows * out_units; }
  int64_t partial(int64_t c) const { return kWinogradPoints * c * outs; }  // numbers of a chunk's sums
};

bool splits_far(const ConvShape& s) {
  const int64_t outs = round_up(s.oc, L);
  return SplitProducts::takes(s.c, outs) && min_of(s.c, outs) >= kSplitLeast && s.c * outs >= kSplitWeights;
}
bool splits_near(const ConvShape& s, int64_t tiles) {
  const int64_t most = winograd_suits(s.c, s.oc, s.oh, s.ow) ? kNearTiles : kNearSplitTiles;
  return splits_far(s) && s.c * s.oc > kManyWeights && tiles >= kNearSplitLeast && tiles <= most;
}

Plan plan(const ConvShape& s) {
  Plan f{};
  f.map = winograd_tiles(s.n, s.oh, s.ow);
  f.tiles = f.map.count;
  f.outs = round_up(s.oc, L);
  f.unit_rows = 6;
  f.splits = splits_near(s, f.tiles);
  f.near = f.splits || f.tiles <= kNearTiles;
  if (f.splits) {
    f.near_rows = f.unit_ins = f.unit_outs = kNearSplit;
  } else if (f.near) {
    f.near_rows = kNearRows;
    f.unit_ins = min_of(kNearIns, round_up(s.c, L));
    f.unit_outs = min_of(kNearOuts, f.outs);
  }
  if (f.near) {
    f.out_units = ceil_div(f.outs, f.unit_outs);
    f.block = f.tiles;
    f.chunks = 1;
    f.x_step = f.tiles * f.unit_ins + L;
    f.dy_step = f.tiles * f.unit_outs + L;
    return f;
  }
  f.splits = splits_far(s);
  const int64_t unit_bytes = f.splits ? kSplitUnitBytes : kUnitBytes;
  const auto too_many = [&](int64_t rows) {
    return f.splits ? rows * 24 * (kSplitTiles * (s.c + f.outs) + s.c * f.outs) > kSplitBytes
                    : rows * 24 * s.c * f.outs > kUnitBytes;
  };
  while (f.unit_rows > 1 && too_many(f.unit_rows))
    f.unit_rows = f.unit_rows == 6 ? 3 : f.splits ? 1 : f.unit_rows - 1;
  const int64_t row_bytes = f.unit_rows * 6 * s.c * 4;
  f.out_units = min_of(ceil_div(row_bytes * f.outs, unit_bytes), f.outs / L);
  f.unit_outs = round_up(ceil_div(f.outs, f.out_units), 2 * L);
  f.out_units = ceil_div(f.outs, f.unit_outs);
  f.block = kBlockBytes / (f.unit_rows * 6 * 4 * (s.c + f.unit_outs)) / kLeastTiles * kLeastTiles;
  f.block = max_of(min_of(f.block, kMostTiles), kLeastTiles);
  if (f.splits) f.block = kSplitTiles;
  f.chunks = max_of(min_of(f.tiles / kChunkTiles, ceil_div(kTasks, f.units())), 1);
  if (f.units() * f.chunks < kLeastTasks) {
    f.chunks = ceil_div(kLeastTasks, f.units());
    while (f.chunks > 1 && f.tiles < f.chunks * kLeastChunk) f.chunks /= 2;
  }
  f.x_step = f.block * s.c + L;
  f.dy_step = f.block * f.unit_outs + L;
  return f;
}

// What is read, and how.
struct Arrays {
  const float* x;
  Reading reading_x;
  const float* dy;
  Reading reading_dy;
};

struct Room {
  float* x;   // [point][tile][channel]
  float* dy;  // [point][tile][output]
  float* zeros;
  float* sums;  // [point][channel][output] of sum_near
  char* split;  // of SplitProducts
};
SplitProductsShape split_shape(const ConvShape& s, const Plan& f, int64_t ins, int64_t outs) {
  if (f.near) return {ins, outs, f.block, f.unit_ins, f.unit_outs, f.unit_outs};
  return {ins, outs, f.block, s.c, f.unit_outs, f.outs};
}
int64_t near_step(const Plan& f) { return f.near_rows * f.unit_outs + L; }

Room room_of(const ConvShape& s, const Plan& f, char* memory, int64_t* bytes) {
  Room room{};
  Cut cut(memory);
  cut.take(room.x, f.unit_rows * 6 * f.x_step);
  cut.take(room.dy, f.unit_rows * 6 * f.dy_step);
  cut.take(room.zeros, round_up(max_of(s.c, s.oc), L));
  cut.take(room.sums, f.near ? kWinogradPoints * near_step(f) : 0);
  const int64_t ins = f.near ? f.unit_ins : s.c;
  cut.take(room.split, f.splits ? SplitProducts::bytes(split_shape(s, f, ins, f.unit_outs)) : 0);
  if (bytes) *bytes = cut.bytes();
  return room;
}

// Channels [k0, k0 + n) of a tile: rows [row0, row0 + rows) of its 6 x 6 numbers, to[point * step + k]. Lanes beyond n are zeros
// up to a whole vector where there is room for them. `matrix` is what `transform` multiplies by.
template <int N, class Load, class F>
CNNMATH_INLINE void transform_tile(Load load_pixels, int64_t k0, int64_t n, int64_t row0, int64_t rows,
                                   bool whole, float* to, int64_t step, const float (&matrix)[6][N],
                                   F transform) {
  for (int64_t k = 0; k < n; k += L) {
    Vec<float> in[N][N];
    load_pixels(k0 + k, n - k, in);
    const auto put = [&](int64_t i, const Vec<float>(&out)[6]) __attribute__((always_inline)) {
      float* at = to + i * 6 * step + k;
      if (whole || n - k >= L) {
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) store(at + j * step, out[j]);
      } else {
        for (int j = 0; j < 6; ++j) store_n(at + j * step, out[j], n - k);
      }
    };
    if (rows == 1) {
      Vec<float> factor[N], row[N], out[6];
#pragma GCC unroll 6
      for (int i = 0; i < N; ++i) factor[i] = set1<float>(matrix[row0][i]);
#pragma GCC unroll 6
      for (int q = 0; q < N; ++q) {
        row[q] = factor[0] * in[0][q];
#pragma GCC unroll 6
        for (int i = 1; i < N; ++i) row[q] = fma(factor[i], in[i][q], row[q]);
      }
      transform(row, out);
      put(0, out);
    } else {
      winograd_by_rows<N, 6>(in, row0, rows, transform, put);
    }
  }
}

// A tile of x, or of dy: channels (outputs) from k0 on, rows of the 6 x 6 from row0 on.
void transform_pixels(const ConvShape& s, const Plan& f, const Arrays& in, int64_t tile, int64_t k0,
                      int64_t n, int64_t row0, const float* zeros, float* to) {
  const auto [image, row, column] = winograd_place(f.map, tile);
  const float* pixel[6][6];
  winograd_pixels({in.x + image * s.h * s.w * s.c, s.h, s.w, s.c}, row - s.pt, column - s.pl, zeros, pixel);
  const auto transform = [](const Vec<float>(&d)[6], Vec<float>(&out)[6]) { winograd_input(d, out); };
  const auto load_x = [&](int64_t k, int64_t left, Vec<float>(&d)[6][6])
                          __attribute__((always_inline)) { winograd_load(pixel, k, left, d); };
  const auto load_normed = [&](int64_t k, int64_t left, Vec<float>(&d)[6][6]) __attribute__((always_inline)) {
    winograd_load_normed(pixel, zeros, in.reading_x.norm, s.c, k, left, d);
  };
  if (in.reading_x.norm)
    transform_tile<6>(load_normed, k0, n, row0, f.unit_rows, f.near, to, f.x_step, kWinogradInput, transform);
  else
    transform_tile<6>(load_x, k0, n, row0, f.unit_rows, f.near, to, f.x_step, kWinogradInput, transform);
}
void transform_gradient(const ConvShape& s, const Plan& f, const Arrays& in, int64_t tile, int64_t o0,
                        int64_t outs, int64_t row0, const float* zeros, float* to) {
  const auto [image, row, column] = winograd_place(f.map, tile);
  const auto transform = [](const Vec<float>(&d)[4], Vec<float>(&out)[6]) { winograd_output_back(d, out); };
  const int64_t count = min_of(s.oc - o0, outs);
  if (in.reading_dy.codes) {
    const int64_t first = image * (s.oh / 2) * (s.ow / 2) * s.oc;
    const WinogradWindows<4, false, false> windows(in.dy + first, in.reading_dy.codes + first, s.oh, s.ow,
                                                   s.oc, row, column);
    const auto load_windows = [&](int64_t k, int64_t n, Vec<float>(&d)[4][4])
                                  __attribute__((always_inline)) { windows.load(k, n, d); };
    transform_tile<4>(load_windows, o0, count, row0, f.unit_rows, true, to, f.dy_step, kWinogradOutputBack,
                      transform);
    return;
  }
  const float* gradient[4][4];
  winograd_pixels({in.dy + image * s.oh * s.ow * s.oc, s.oh, s.ow, s.oc}, row, column, zeros, gradient);
  const auto load_gradient = [&](int64_t k, int64_t n, Vec<float>(&d)[4][4])
                                 __attribute__((always_inline)) { winograd_load(gradient, k, n, d); };
  transform_tile<4>(load_gradient, o0, count, row0, f.unit_rows, true, to, f.dy_step, kWinogradOutputBack,
                    transform);
}

// Of one point: sums[k][o] (+)= sum over the tiles of x[tile][k] dy[tile][o] for k < ins and o < outs.
class Products {
 public:
  // How long the rows are in memory.
  Products(int64_t ins, int64_t outs, int64_t x_row, int64_t dy_row, int64_t sums_row)
      : ins_(ins),
        panels_(panels_of<float>(outs)),
        wide_(column_tiles<float>(panels_.wide), panels_.wide, true),
        last_(column_tiles<float>(panels_.last), panels_.last, true),
        x_row_(x_row),
        dy_row_(dy_row),
        sums_row_(sums_row) {}

  void add(const float* x, const float* dy, int64_t tiles, bool accumulate, float* sums) const {
    for (int64_t j = 0; j < panels_.count; ++j) {
      const Deal<float>& deal = j + 1 < panels_.count ? wide_ : last_;
      const int64_t zero = 0, at = panels_.begin(j);
      const TileCall<float> call{
          1, &zero, &zero, tiles, dy + at, dy_row_, x_row_, at, panels_.columns(j), nullptr, accumulate, 0};
      for (int64_t k = 0; k < ins_;) {
        const Tile<float>& tile = deal.next(ins_ - k);
        const float* a = x + k;
        float* c[kTallestTile];
        for (int i = 0; i < tile.m; ++i) c[i] = sums + (k + i) * sums_row_;
        tile.run(&a, c, call);
        k += tile.m;
      }
    }
  }

 private:
  int64_t ins_;
  Panels<float> panels_;
  Deal<float> wide_, last_;
  int64_t x_row_, dy_row_, sums_row_;
};

// The outputs of a unit, and the first row of its points.
struct Unit {
  int64_t out, outs, row;
};
Unit unit_of(const Plan& f, int64_t unit) {
  const int64_t out = unit % f.out_units * f.unit_outs;
  return {out, min_of(f.unit_outs, f.outs - out), unit / f.out_units * f.unit_rows};
}

// A chunk's sums of a unit. `products` is a Products, or the like.
template <class P>
void sum_unit(const ConvShape& s, const Plan& f, const Arrays& in, const Room& room, const P& products,
              int64_t chunk, const Unit& unit, float* sums) {
  zero_run(room.zeros, round_up(max_of(s.c, s.oc), L));
  const int64_t from = f.tiles * chunk / f.chunks, to = f.tiles * (chunk + 1) / f.chunks;
  sums += chunk * f.partial(s.c) + unit.row * 6 * s.c * f.outs + unit.out;
  for (int64_t begin = from; begin < to; begin += f.block) {
    const int64_t tiles = min_of(f.block, to - begin);
    for (int64_t t = 0; t < tiles; ++t) {
      transform_pixels(s, f, in, begin + t, 0, s.c, unit.row, room.zeros, room.x + t * s.c);
      transform_gradient(s, f, in, begin + t, unit.out, unit.outs, unit.row, room.zeros,
                         room.dy + t * f.unit_outs);
    }
    for (int64_t p = 0; p < f.unit_rows * 6; ++p)
      products.add(room.x + p * f.x_step, room.dy + p * f.dy_step, tiles, begin > from,
                   sums + p * s.c * f.outs);
  }
}

void sum_far(const ConvShape& s, const Plan& f, const Arrays& in, float* sums, char* scratch, int64_t task) {
  const Room room = room_of(s, f, scratch, nullptr);
  const Unit unit = unit_of(f, task / f.chunks);
  const int64_t chunk = task % f.chunks;
  if (f.splits)
    sum_unit(s, f, in, room, SplitProducts(split_shape(s, f, s.c, unit.outs), room.split), chunk, unit, sums);
  else
    sum_unit(s, f, in, room, Products(s.c, unit.outs, s.c, f.unit_outs, f.outs), chunk, unit, sums);
}

// Channel k of dw, outputs [o0, o1), from its sums, those of output o0 first; `step` numbers from point to point.
void transform_back(const ConvShape& s, const Plan& f, const Arrays& in, const float* sums, int64_t step,
                    float* dw, int64_t k, int64_t o0, int64_t o1) {
  for (int64_t o = o0; o < o1; o += L) {
    const int64_t n = min_of(o1 - o, L);
    Vec<float> u[6][6], g[3][3], check = zero<float>();
#pragma GCC unroll 36
    for (int p = 0; p < kWinogradPoints; ++p) u[p / 6][p % 6] = load(sums + p * step + o - o0);
    for (int64_t chunk = 1; chunk < f.chunks; ++chunk)
#pragma GCC unroll 36
      for (int p = 0; p < kWinogradPoints; ++p)
        u[p / 6][p % 6] = u[p / 6][p % 6] + load(sums + chunk * f.partial(s.c) + p * step + o - o0);
    winograd_both<6, 3>(
        u, g, [](const Vec<float>(&in)[6], Vec<float>(&out)[3]) { winograd_weights_back(in, out); });
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) fma_to(check, g[i][j], zero<float>());
    const bool finite = !any(ne(check, check));
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = 0; j < 3; ++j) {
        float* to = dw + ((i * 3 + j) * s.c + k) * s.oc + o;
        store_n(to,
                finite ? g[i][j]
                       : grad_weight_numbers(s, in.x, in.dy, i, j, k, o, n, in.reading_x, in.reading_dy),
                n);
      }
    }
  }
}

void sum_near(const ConvShape& s, const Plan& f, const Arrays& in, float* dw, char* scratch, int64_t task) {
  const Room room = room_of(s, f, scratch, nullptr);
  zero_run(room.zeros, round_up(max_of(s.c, s.oc), L));
  const int64_t o0 = task % f.out_units * f.unit_outs, k0 = task / f.out_units * f.unit_ins;
  const int64_t outs = min_of(f.unit_outs, f.outs - o0), ins = min_of(f.unit_ins, s.c - k0);
  for (int64_t t = 0; t < f.tiles; ++t) {
    transform_pixels(s, f, in, t, k0, ins, 0, room.zeros, room.x + t * f.unit_ins);
    transform_gradient(s, f, in, t, o0, outs, 0, room.zeros, room.dy + t * f.unit_outs);
  }
  const auto back = [&](int64_t k, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i)
      transform_back(s, f, in, room.sums + i * f.unit_outs, near_step(f), dw, k0 + k + i, o0,
                     min_of(o0 + outs, s.oc));
  };
  const auto sum = [&](const auto& products, int64_t k) {
    for (int64_t p = 0; p < kWinogradPoints; ++p)
      products.add(room.x + p * f.x_step + k, room.dy + p * f.dy_step, f.tiles, false,
                   room.sums + p * near_step(f));
  };
  if (f.splits) {
    sum(SplitProducts(split_shape(s, f, ins, outs), room.split), 0);
    return back(0, ins);
  }
  for (int64_t k = 0; k < ins; k += f.near_rows) {
    const int64_t rows = min_of(ins - k, f.near_rows);
    sum(Products(rows, outs, f.unit_ins, f.unit_outs, f.unit_outs), k);
    back(k, rows);
  }
}

int phases(const int64_t* p) { return plan(conv_shape(p)).near ? 1 : 2; }
int64_t tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  const Plan f = plan(s);
  if (f.near) return f.out_units * ceil_div(s.c, f.unit_ins);
  return phase == 0 ? f.units() * f.chunks : s.c;
}
int64_t workspace(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  const Plan f = plan(s);
  return f.near ? 0 : f.chunks * f.partial(s.c) * 4;
}
int64_t scratch(const int64_t* p) {
  int64_t bytes = 0;
  room_of(conv_shape(p), plan(conv_shape(p)), nullptr, &bytes);
  return bytes;
}
void run_on(const Task& t, const Arrays& in, float* dw) {
  const ConvShape& s = conv_shape(t.p);
  const Plan f = plan(s);
  float* sums = static_cast<float*>(t.workspace);
  char* scratch = static_cast<char*>(t.scratch);
  if (f.near)
    sum_near(s, f, in, dw, scratch, t.index);
  else if (t.phase == 0)
    sum_far(s, f, in, sums, scratch, t.index);
  else
    transform_back(s, f, in, sums + t.index * f.outs, s.c * f.outs, dw, t.index, 0, s.oc);
}

const float* floats(const Task& t, int i) { return static_cast<const float*>(t.a[i]); }

void run(const Task& t) { run_on(t, {floats(t, 0), {}, floats(t, 1), {}}, static_cast<float*>(t.a[2])); }
void run_fused(const Task& t) {
  const Reading reading_x{floats(t, 1), nullptr}, reading_dy{nullptr, static_cast<const uint8_t*>(t.a[3])};
  run_on(t, {floats(t, 0), reading_x, floats(t, 2), reading_dy}, static_cast<float*>(t.a[4]));
}

}  // namespace

namespace {
bool splits_many(const ConvShape& s) {
  const WinogradTiles map = winograd_tiles(s.n, s.oh, s.ow);
  return splits_near(s, map.count) && winograd_fills(s.oh, s.ow);
}
}  // namespace

template <>
bool winograd_grad_weight_pays<float>(const ConvShape& s) {
  return !s.direct && s.groups == 1 && s.kh == 3 && s.kw == 3 && s.sh == 1 && s.sw == 1 && s.dh == 1 &&
         s.dw == 1 && s.n > 0 && s.oh > 0 && s.ow > 0 && conv_flops(s) > kSmallFlops &&
         (winograd_suits(s.c, s.oc, s.oh, s.ow) || splits_many(s));
}
template <>
ConvPart winograd_grad_weight_part<float>() {
  return {phases, tasks, workspace, scratch, run};
}
ConvPart winograd_fused_grad_weight_part() { return {phases, tasks, workspace, scratch, run_fused}; }
template <>
bool winograd_grad_weight_pays<double>(const ConvShape&) {
  return false;
}
template <>
ConvPart winograd_grad_weight_part<double>() {
  return {};
}

}  // namespace cnnmath::CNNMATH_ISA
