// conv2d_grad_weight: sums over all pixels.
//
// dW is cut into units (a few taps, a few panels of outputs) that stay in L2, and the rows of y into
// `chunks`. A task sums one unit over one chunk, tile by tile, the rows of a chunk coming by in blocks that
// stay in L2 too. With more than one chunk, partial sums go to the workspace and phase 1 adds them in order.
//
// A is x by columns: the channels under one tap, pixels as depth. With few channels the kw taps of a row are
// taken together, kw * c adjacent numbers, from a padded copy of x; otherwise each tap takes x in place and
// the pixels that it finds inside the map. Of a single channel, a row of pixels is a row of A: all taps of the kernel make
// one tile.
#include "kernels/conv/parts.h"
#include "kernels/conv/weight_rows.h"
#include "kernels/tile/pack.h"
#include "kernels/tile/tile.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kUnitBytes = 256 << 10;   // of dW
constexpr int64_t kBlockBytes = 384 << 10;  // of x and dy
constexpr int64_t kChunkFlops = int64_t{kVecBytes} << 16;
constexpr int64_t kTasks = 32;  // as many as keep the threads of a small machine busy to the end
constexpr int64_t kPartialBytes = 16 << 20;
constexpr int64_t kCombine = 16 << 10;  // elements of a task of phase 1

template <class T>
struct WeightPlan {
  int64_t cg, og;
  bool merged, copies_dy;
  bool single;     // channel: A is by rows
  bool dense;      // the copy of dy has no gaps: what a vector reads beyond a pixel's outputs is thrown away
  int64_t taps_u;  // units of taps in a row of the kernel: 1 when merged
  int64_t m;       // rows of dW under one of them
  Panels<T> panels;
  int64_t unit_v, unit_u;  // taps of a unit
  int64_t unit_panels;
  int64_t blocks_v, blocks_u, blocks_panels;
  int64_t rows;  // of y in all images
  int64_t chunks;
  int64_t block_rows;  // rows of y that a task takes at a time
  int64_t
      dy_width;  // from pixel to pixel of dy as the tile reads it; of a copy, a unit's columns and a vector
  int64_t copy_columns, copy_rows;
  int64_t size;  // of dW
  int64_t units(int64_t groups) const { return groups * blocks_v * blocks_u * blocks_panels; }
};

template <class T>
WeightPlan<T> plan_weight(const ConvShape& s) {
  WeightPlan<T> f{};
  const int64_t item = sizeof(T);
  f.cg = s.c / s.groups;
  f.og = s.oc / s.groups;
  f.merged = merges_taps(s);
  f.taps_u = f.merged ? 1 : s.kw;
  f.m = f.merged ? s.kw * f.cg : f.cg;
  f.panels = panels_of<T>(max_of(f.og, 1));
  f.rows = s.n * s.oh;
  f.size = s.kh * s.kw * f.cg * s.oc;
  // Units.
  f.unit_v = s.kh, f.unit_u = f.taps_u, f.unit_panels = f.panels.count;
  const int64_t tap_bytes = max_of(f.m * f.og * item, 1);
  if (f.unit_v * f.unit_u * tap_bytes > kUnitBytes) f.unit_v = 1;
  if (f.unit_v * f.unit_u * tap_bytes > kUnitBytes) f.unit_u = 1;
  if (f.unit_v * f.unit_u * tap_bytes > kUnitBytes)
    f.unit_panels = min_of(max_of(kUnitBytes / max_of(f.m * f.panels.width() * item, 1), 1), f.panels.count);
  // dy is copied where its pixels end within a vector, and where they lie so far apart that they share cache
  // sets.
  f.copies_dy = f.og % Vec<T>::lanes != 0 || (s.oc * item % 2048 == 0 && f.m >= 64);
  const int64_t widest = f.panels.wide > f.panels.last ? f.panels.wide : f.panels.last;
  f.single = f.merged && f.cg == 1 && s.sw == 1;
  f.dense = f.og < Vec<T>::lanes && s.groups == 1;
  f.dy_width = f.dense       ? s.oc
               : f.copies_dy ? (f.unit_panels - 1) * f.panels.width() + (widest + 1) * Vec<T>::lanes
                             : s.oc;
  f.blocks_v = s.kh ? ceil_div(s.kh, f.unit_v) : 0;
  f.blocks_u = s.kw ? ceil_div(f.taps_u, f.unit_u) : 0;
  f.blocks_panels = ceil_div(f.panels.count, f.unit_panels);
  // Chunks: enough tasks, but none too small, and no more partial sums than are cheap to add.
  const int64_t flops = conv_flops(s) / max_of(f.og, 1) * f.panels.padded();  // with the idle lanes
  f.chunks = min_of(ceil_div(kTasks, max_of(f.units(s.groups), 1)), flops / kChunkFlops);
  f.chunks = min_of(f.chunks, min_of(f.rows, kPartialBytes / max_of(f.size * item, 1)));
  f.chunks = max_of(f.chunks, 1);
  // Blocks of rows.
  const int64_t row_bytes =
      (s.sh * s.w * f.cg + s.ow * min_of(f.og, f.unit_panels * f.panels.width())) * item;
  f.block_rows = min_of(max_of(kBlockBytes / max_of(row_bytes, 1), 1), max_of(ceil_div(f.rows, f.chunks), 1));
  if (f.merged && s.ow) {
    f.copy_columns = (s.ow - 1) * s.sw + s.kw;
    f.copy_rows = most_copied_rows(s, f.block_rows);
  }
  return f;
}

template <class T>
int64_t lists_bytes(const WeightPlan<T>& f) {
  return round_up(3 * f.block_rows * static_cast<int64_t>(sizeof(int64_t)), 64);
}
template <class T>
int64_t dy_bytes(const ConvShape& s, const WeightPlan<T>& f) {
  const int64_t size = f.block_rows * s.ow * f.dy_width + Vec<T>::lanes;
  return f.copies_dy ? round_up(size * static_cast<int64_t>(sizeof(T)), 64) : 0;
}

template <class T>
int weight_phases(const int64_t* p) {
  return plan_weight<T>(conv_shape(p)).chunks > 1 ? 2 : 1;
}

template <class T>
int64_t weight_tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  const WeightPlan<T> f = plan_weight<T>(s);
  if (phase == 1) return ceil_div(f.size, kCombine);
  return conv_flops(s) <= kSmallFlops ? 1 : f.units(s.groups) * f.chunks;
}

template <class T>
int64_t weight_workspace(const int64_t* p) {
  const WeightPlan<T> f = plan_weight<T>(conv_shape(p));
  return f.chunks > 1 ? f.chunks * f.size * static_cast<int64_t>(sizeof(T)) : 0;
}

template <class T>
int64_t weight_scratch(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  const WeightPlan<T> f = plan_weight<T>(s);
  return lists_bytes(f) + dy_bytes(s, f) +
         f.copy_rows * f.copy_columns * f.cg * static_cast<int64_t>(sizeof(T));
}

template <class T>
struct Unit {
  int64_t group, v0, v1, u0, u1, panel0, panel1;
};

// All taps of a unit over some rows of y, of a single channel.
template <class T>
void sum_taps(const ConvShape& s, const WeightPlan<T>& f, const Unit<T>& unit, int64_t rows, bool accumulate,
              const T* x, const int64_t* a_offset, const T* dy, int64_t* b_offset, T* dw) {
  for (int64_t r = 0; r < rows; ++r) b_offset[r] = r * s.ow * f.dy_width;
  const int64_t end = unit.v1 * s.kw;
  for (int64_t n = unit.panel0; n < unit.panel1; ++n) {
    const int nv = f.panels.vectors(n);
    const Deal<T> deal(row_tiles<T>(nv), nv, false);
    const TileCall<T> call{rows,
                           a_offset,
                           b_offset,
                           s.ow,
                           dy + f.panels.begin(n) - f.panels.begin(unit.panel0),
                           f.dy_width,
                           0,
                           f.panels.begin(n),
                           f.panels.columns(n),
                           nullptr,
                           accumulate,
                           0};
    for (int64_t m = unit.v0 * s.kw; m < end;) {
      const Tile<T>& tile = deal.next(end - m);
      const T* a[kTallestTile];
      T* c[kTallestTile];
      for (int k = 0; k < tile.m; ++k) {
        const int64_t tap = min_of(m + k, end - 1);
        a[k] = x + tap / s.kw * s.dh * f.copy_columns + tap % s.kw;
        c[k] = dw + tap * s.oc + unit.group * f.og;
      }
      tile.run(a, c, call);
      m += tile.m;
    }
  }
}

// One unit of dW over the rows [row0, row1) of y.
template <class T>
void sum_unit(const ConvShape& s, const WeightPlan<T>& f, const Unit<T>& unit, int64_t row0, int64_t row1,
              const T* x, const T* dy, T* dw, char* scratch) {
  int64_t* a_offset = reinterpret_cast<int64_t*>(scratch);
  int64_t* b_offset = a_offset + f.block_rows;
  int64_t* at = b_offset + f.block_rows;
  T* dy_copy = reinterpret_cast<T*>(scratch + lists_bytes(f));
  T* x_copy = reinterpret_cast<T*>(scratch + lists_bytes(f) + dy_bytes(s, f));
  const int nv0 = f.panels.vectors(unit.panel0), nv1 = f.panels.vectors(unit.panel1 - 1);
  const Deal<T> deals[2] = {{column_tiles<T>(nv0), nv0, true}, {column_tiles<T>(nv1), nv1, true}};

  for (int64_t r0 = row0; r0 == row0 || r0 < row1; r0 += f.block_rows) {
    const int64_t r1 = min_of(r0 + f.block_rows, row1);
    const int64_t first = f.panels.begin(unit.panel0);
    const T* b = dy + unit.group * f.og + first + r0 * s.ow * s.oc;
    if (f.dense) {
      const int64_t size = (r1 - r0) * s.ow * s.oc;
      copy_run(dy_copy, b, size);
      zero_run(dy_copy + size, Vec<T>::lanes);
      b = dy_copy;
    } else if (f.copies_dy) {
      const int64_t columns = f.panels.begin(unit.panel1 - 1) + f.panels.columns(unit.panel1 - 1) - first;
      for (int64_t i = 0; i < (r1 - r0) * s.ow; ++i) {
        copy_run(dy_copy + i * f.dy_width, b + i * s.oc, columns);
        zero_run(dy_copy + i * f.dy_width + columns, f.dy_width - columns);
      }
      b = dy_copy;
    }
    const T* a = x + unit.group * f.cg;
    if (f.merged) {
      copy_rows(s, f.copy_columns, f.cg, x, unit.group * f.cg, r0, r1, x_copy, at);
      a = x_copy;
    }
    if (f.single) {
      sum_taps(s, f, unit, r1 - r0, r0 > row0, x_copy, at, b, b_offset, dw);
      continue;
    }
    for (int64_t i = unit.v0; i < unit.v1; ++i) {
      for (int64_t j = unit.u0; j < unit.u1; ++j) {
        int64_t lo, hi;
        const int64_t blocks = tap_blocks(s, r0, r1, i, j, f.merged ? at : nullptr, f.copy_columns * f.cg,
                                          f.dy_width, a_offset, b_offset, lo, hi);
        T* out = dw + (i * s.kw + (f.merged ? 0 : j)) * f.cg * s.oc + unit.group * f.og;
        for (int64_t n = unit.panel0; n < unit.panel1; ++n) {
          const Deal<T>& deal = deals[n == unit.panel1 - 1];
          const TileCall<T> call{blocks,
                                 a_offset,
                                 b_offset,
                                 hi - lo,
                                 b + f.panels.begin(n) - first,
                                 f.dy_width,
                                 (f.merged ? f.cg : s.c) * s.sw,
                                 f.panels.begin(n),
                                 f.panels.columns(n),
                                 nullptr,
                                 r0 > row0,
                                 0};
          for (int64_t m = 0; m < f.m;) {
            const Tile<T>& tile = deal.next(f.m - m);
            const T* rows_a = a + m;
            T* rows_c[16];
            for (int k = 0; k < tile.m; ++k) rows_c[k] = out + (m + k) * s.oc;
            tile.run(&rows_a, rows_c, call);
            m += tile.m;
          }
        }
      }
    }
  }
}

template <class T>
void weight_run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const WeightPlan<T> f = plan_weight<T>(s);
  const T* x = static_cast<const T*>(t.a[0]);
  const T* dy = static_cast<const T*>(t.a[1]);
  T* dw = static_cast<T*>(t.a[2]);
  T* partial = static_cast<T*>(t.workspace);
  if (t.phase == 1) {
    constexpr int L = Vec<T>::lanes;
    const int64_t end = min_of((t.index + 1) * kCombine, f.size);
    for (int64_t i = t.index * kCombine; i < end; i += L) {
      const int64_t n = min_of(end - i, L);
      Vec<T> sum = load_n(partial + i, n);
      for (int64_t k = 1; k < f.chunks; ++k) sum = sum + load_n(partial + k * f.size + i, n);
      store_n(dw + i, sum, n);
    }
    return;
  }
  const bool small = conv_flops(s) <= kSmallFlops;
  const int64_t count = f.units(s.groups) * f.chunks;
  for (int64_t index = small ? 0 : t.index; index < (small ? count : t.index + 1); ++index) {
    const int64_t chunk = index % f.chunks;
    int64_t rest = index / f.chunks;
    Unit<T> unit{};
    unit.panel0 = rest % f.blocks_panels * f.unit_panels;
    unit.panel1 = min_of(unit.panel0 + f.unit_panels, f.panels.count);
    rest /= f.blocks_panels;
    unit.u0 = rest % f.blocks_u * f.unit_u;
    unit.u1 = min_of(unit.u0 + f.unit_u, f.taps_u);
    rest /= f.blocks_u;
    unit.v0 = rest % f.blocks_v * f.unit_v;
    unit.v1 = min_of(unit.v0 + f.unit_v, s.kh);
    unit.group = rest / f.blocks_v;
    sum_unit(s, f, unit, f.rows * chunk / f.chunks, f.rows * (chunk + 1) / f.chunks, x, dy,
             f.chunks > 1 ? partial + chunk * f.size : dw, static_cast<char*>(t.scratch));
  }
}

}  // namespace

Vec<float> grad_weight_numbers(const ConvShape& s, const float* x, const float* dy, int64_t i, int64_t j,
                               int64_t c, int64_t o, int64_t outs, const Reading& reading_x,
                               const Reading& reading_dy) {
  const bool padded = merges_taps(s);
  const ReadMap map_x{x, s.h, s.w, s.c, reading_x}, map_dy{dy, s.oh, s.ow, s.oc, reading_dy};
  Vec<float> sums = zero<float>();
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t p = 0; p < s.oh; ++p) {
      const int64_t row = p * s.sh - s.pt + i * s.dh;
      for (int64_t q = 0; q < s.ow; ++q) {
        const int64_t column = q * s.sw - s.pl + j * s.dw;
        const bool inside = row >= 0 && row < s.h && column >= 0 && column < s.w;
        if (!inside && !padded) continue;
        float g[Vec<float>::lanes] = {};
        for (int64_t l = 0; l < outs; ++l) g[l] = map_dy.at(n, p, q, o + l);
        fma_to(sums, set1(map_x.at(n, row, column, c)), load(g));
      }
    }
  }
  return sums;
}

#define PARTS(T)                                                                                       \
  template <>                                                                                          \
  ConvPart grad_weight_part<T>() {                                                                     \
    return {weight_phases<T>, weight_tasks<T>, weight_workspace<T>, weight_scratch<T>, weight_run<T>}; \
  }
PARTS(float)
PARTS(double)

}  // namespace cnnmath::CNNMATH_ISA
