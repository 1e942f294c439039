// conv2d_grad_weight with few outputs of a group, which would leave most lanes empty: the numbers of x take the lanes, the outputs the rows of
// the tile, and what comes out is dW with its last two dims exchanged, dW'[i][j][o][k]. For the rest as in grad_weight.cpp: tiles over
// pixels, all taps of a row together where there are few channels, chunks of rows of y whose sums phase 1 adds in order.
#include "kernels/conv/parts.h"
#include "kernels/conv/weight_rows.h"
#include "kernels/tile/pack.h"
#include "kernels/tile/tile.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kBlockBytes = 384 << 10;  // of x and dy
constexpr int64_t kChunkFlops = int64_t{kVecBytes} << 16;
constexpr int64_t kTasks = 32;  // as many as keep the threads of a small machine busy to the end
constexpr int64_t kPartialBytes = 16 << 20;
constexpr int64_t kCombine = 4 << 10;  // elements of a task of phase 1

template <class T>
struct Plan {
  int64_t cg, og;  // channels of a group
  bool merged;
  int64_t taps_u, width;  // units of taps in a row of the kernel; numbers of x under one of them
  Panels<T> panels;       // of these
  int64_t rows;           // of y in all images
  int64_t chunks, block_rows;
  int64_t columns, copy_rows;  // of the copy
  int64_t size;                // of dW
  int64_t sums;                // of a group's dW', its rows in whole vectors
};

template <class T>
Plan<T> plan(const ConvShape& s) {
  constexpr int64_t item = sizeof(T);
  Plan<T> f{};
  f.cg = s.c / s.groups, f.og = s.oc / s.groups;
  f.merged = merges_taps(s);
  f.taps_u = f.merged ? 1 : s.kw;
  f.width = f.merged ? s.kw * f.cg : f.cg;
  f.panels = panels_of<T>(f.width);
  f.rows = s.n * s.oh;
  f.size = s.kh * s.kw * f.cg * s.oc;
  f.sums = s.kh * f.taps_u * f.og * f.panels.padded();
  f.chunks = min_of(min_of(kTasks, conv_flops(s) / kChunkFlops) / s.groups,
                    min_of(f.rows, kPartialBytes / (s.groups * f.sums * item)));
  f.chunks = max_of(f.chunks, 1);
  const int64_t row_bytes = (s.sh * s.w * f.cg + s.ow * s.oc) * item;
  f.block_rows = min_of(max_of(kBlockBytes / row_bytes, 1), ceil_div(f.rows, f.chunks));
  if (f.merged) {
    f.columns = (s.ow - 1) * s.sw + s.kw;
    f.copy_rows = most_copied_rows(s, f.block_rows);
  }
  return f;
}

// Where panel n begins among the numbers under a tap. The last one may reach beyond them, behind the last of x beyond its
// memory: in place it ends with them instead, and does some of them again.
template <class T>
int64_t panel_begin(const Plan<T>& f, int64_t n) {
  const int64_t reach = int64_t{f.panels.vectors(n)} * Vec<T>::lanes;
  return f.merged ? f.panels.begin(n) : min_of(f.panels.begin(n), f.width - reach);
}

int phases(const int64_t*) { return 2; }

template <class T>
int64_t tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  if (conv_flops(s) <= kSmallFlops) return 1;
  return phase == 0 ? s.groups * plan<T>(s).chunks : ceil_div(plan<T>(s).size, kCombine);
}

template <class T>
int64_t workspace(const int64_t* p) {
  const Plan<T> f = plan<T>(conv_shape(p));
  return conv_shape(p).groups * f.chunks * f.sums * static_cast<int64_t>(sizeof(T));
}

template <class T>
int64_t list_bytes(const Plan<T>& f) {
  return round_up(3 * f.block_rows * static_cast<int64_t>(sizeof(int64_t)), 64);
}

template <class T>
int64_t scratch(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  const Plan<T> f = plan<T>(s);
  const int64_t reach = f.panels.padded();
  return list_bytes(f) +
         (f.merged ? (f.copy_rows * f.columns * f.cg + reach) * static_cast<int64_t>(sizeof(T)) : 0);
}

// All taps of a group over the rows [row0, row1) of y.
template <class T>
void sum_chunk(const ConvShape& s, const Plan<T>& f, int64_t group, int64_t row0, int64_t row1, const T* x,
               const T* dy, T* dw, char* memory) {
  int64_t* x_offset = reinterpret_cast<int64_t*>(memory);
  int64_t* dy_offset = x_offset + f.block_rows;
  int64_t* at = dy_offset + f.block_rows;
  T* copy = reinterpret_cast<T*>(memory + list_bytes(f));
  for (int64_t r0 = row0; r0 < row1; r0 += f.block_rows) {
    const int64_t r1 = min_of(r0 + f.block_rows, row1);
    if (f.merged) {
      copy_rows(s, f.columns, f.cg, x, group * f.cg, r0, r1, copy, at);
      zero_run(copy + f.copy_rows * f.columns * f.cg, f.panels.padded());
    }
    for (int64_t i = 0; i < s.kh; ++i) {
      for (int64_t j = 0; j < f.taps_u; ++j) {
        int64_t lo, hi;
        const int64_t blocks = tap_blocks(s, r0, r1, i, j, f.merged ? at : nullptr, f.columns * f.cg, s.oc,
                                          x_offset, dy_offset, lo, hi);
        T* out = dw + (i * f.taps_u + j) * f.og * f.panels.padded();
        for (int64_t n = 0; n < f.panels.count; ++n) {
          const int nv = f.panels.vectors(n);
          const Deal<T> deal(column_tiles<T>(nv), nv, true);
          const int64_t begin = panel_begin(f, n);
          const TileCall<T> call{blocks,
                                 dy_offset,
                                 x_offset,
                                 hi - lo,
                                 (f.merged ? copy : x) + begin,
                                 f.cg * s.sw,
                                 s.oc,
                                 f.panels.begin(n),
                                 int64_t{nv} * Vec<T>::lanes,
                                 nullptr,
                                 r0 > row0,
                                 0};
          for (int64_t o = 0; o < f.og;) {
            const Tile<T>& tile = deal.next(f.og - o);
            const T* a = dy + r0 * s.ow * s.oc + group * f.og + o;
            T* c[kTallestTile];
            for (int k = 0; k < tile.m; ++k) c[k] = out + (o + k) * f.panels.padded();
            tile.run(&a, c, call);
            o += tile.m;
          }
        }
      }
    }
  }
}

template <class T>
void run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const Plan<T> f = plan<T>(s);
  T* partial = static_cast<T*>(t.workspace);
  const bool small = conv_flops(s) <= kSmallFlops;
  if (t.phase == 0) {
    for (int64_t i = small ? 0 : t.index; i < (small ? s.groups * f.chunks : t.index + 1); ++i) {
      const int64_t chunk = i % f.chunks;
      sum_chunk(s, f, i / f.chunks, f.rows * chunk / f.chunks, f.rows * (chunk + 1) / f.chunks,
                static_cast<const T*>(t.a[0]), static_cast<const T*>(t.a[1]), partial + i * f.sums,
                static_cast<char*>(t.scratch));
    }
    return;
  }
  T* dw = static_cast<T*>(t.a[2]);
  const int64_t last = f.panels.begin(f.panels.count - 1);
  const int64_t end = small ? f.size : min_of((t.index + 1) * kCombine, f.size);
  for (int64_t at = small ? 0 : t.index * kCombine; at < end; ++at) {
    const int64_t o = at % s.oc, k = at / s.oc % f.width, tap = at / s.oc / f.width;
    const int64_t lane = k < last ? k : last + k - panel_begin(f, f.panels.count - 1);
    const T* from =
        partial + o / f.og * f.chunks * f.sums + (tap * f.og + o % f.og) * f.panels.padded() + lane;
    T sum = from[0];
    for (int64_t chunk = 1; chunk < f.chunks; ++chunk) sum += from[chunk * f.sums];
    dw[at] = sum;
  }
}

}  // namespace

// Lanes of multiply-adds for a pixel, either way. In groups x must be copied.
template <class T>
bool few_grad_weight_pays(const ConvShape& s) {
  constexpr int64_t L = Vec<T>::lanes;
  if (s.n * s.oh * s.ow * s.kh * s.kw * s.c * s.oc == 0 || s.oc / s.groups >= L) return false;
  if (s.groups > 1 && !merges_taps(s)) return false;
  const Plan<T> f = plan<T>(s);
  if (!f.merged && f.width < f.panels.padded() && f.width < int64_t{f.panels.wide} * L) return false;
  const int64_t there = f.width * L * kNarrowHalves;
  const int64_t here = f.panels.padded() * f.og * (f.panels.padded() == L ? kNarrowHalves : 2);
  return 5 * here < 4 * there && f.cg > 1;
}

template <class T>
ConvPart few_grad_weight_part() {
  return {phases, tasks<T>, workspace<T>, scratch<T>, run<T>};
}

#define PARTS(T)                                           \
  template bool few_grad_weight_pays<T>(const ConvShape&); \
  template ConvPart few_grad_weight_part<T>();
PARTS(float)
PARTS(double)

}  // namespace cnnmath::CNNMATH_ISA
