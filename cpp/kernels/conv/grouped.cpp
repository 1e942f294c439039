#include "kernels/conv/grouped.h"

#include "kernels/tile/pack.h"
#include "simd/lanes.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kTaskFlops = int64_t{kVecBytes} << 15;
constexpr int64_t kRowBytes = 16 << 10;    // of a row of a copy
constexpr int64_t kBlockBytes = 32 << 10;  // of a copy whose rows are read once: near the first cache
constexpr int64_t kTallBytes = 160 << 10;  // of one whose rows meet several taps
constexpr int kPixels = 8;                 // of a tile

int64_t greatest_divisor(int64_t a, int64_t b) {
  while (b) {
    const int64_t rest = a % b;
    a = b, b = rest;
  }
  return a;
}

int64_t copy_step(const Axis& a) {
  return a.taps > 1 ? greatest_divisor(a.source_step, a.offset_step) : a.source_step;
}
// Source positions to copy for so many outputs.
int64_t copied(const Axis& a, int64_t outs, int64_t step) {
  return a.taps && outs ? (a.source_end(outs) - a.source_begin(0) - 1) / step + 1 : 0;
}

}  // namespace

template <class T>
Planes<T> plan_planes(const Sweep<T>& s) {
  Planes<T> f{};
  f.v = s.v, f.u = s.u;
  if (f.v.taps <= 1) f.v.offset_step = f.v.source_step;  // of one tap: whatever suits
  if (f.u.taps <= 1) f.u.offset_step = f.u.source_step;
  f.n = s.n, f.h = s.h, f.w = s.w, f.c = s.c;
  f.ic = s.ic, f.oc = s.oc;
  f.outputs = s.groups * s.oc;
  f.vectors = ceil_div(f.outputs, Vec<T>::lanes);
  f.row_step = copy_step(f.v), f.column_step = copy_step(f.u);
  const int64_t column_bytes = max_of(f.column_size() * static_cast<int64_t>(sizeof(T)), 1);
  f.columns = max_of(kRowBytes / column_bytes * f.column_step / f.u.source_step, 2 * kPixels);
  f.column_blocks = ceil_div(f.u.outs, f.columns);
  f.columns = f.column_blocks ? ceil_div(f.u.outs, f.column_blocks) : 0;
  f.copy_columns = copied(f.u, f.columns, f.column_step);
  // Rows that several taps meet are copied once for a block: it should have more of them than taps.
  const int64_t row_bytes = max_of(f.copy_columns * column_bytes, 1);
  const int64_t budget = f.v.taps > 1 ? kTallBytes : kBlockBytes;
  const int64_t more = f.v.taps > 1 ? (f.v.taps - 1) * f.v.offset_step / f.row_step : 0;
  f.rows = max_of((budget / row_bytes - more) * f.row_step / f.v.source_step, 4);
  f.row_blocks = ceil_div(f.v.outs, f.rows);
  f.rows = f.row_blocks ? ceil_div(f.v.outs, f.row_blocks) : 0;
  f.copy_rows = copied(f.v, f.rows, f.row_step);
  f.images = 1;
  if (f.row_blocks == 1 && f.column_blocks == 1)
    f.images = max_of(min_of(budget / max_of(f.copy_rows * row_bytes, 1), f.n), 1);
  f.image_blocks = ceil_div(f.n, f.images);
  return f;
}

template <class T>
PixelBlock Planes<T>::block(int64_t index) const {
  const int64_t q = index % column_blocks * columns, t = index / column_blocks % row_blocks * rows;
  const int64_t image = index / column_blocks / row_blocks * images;
  return {image, min_of(image + images, n), t, min_of(t + rows, v.outs), q, min_of(q + columns, u.outs)};
}

// The inputs of a vector's lanes begin at channel `first`, `offset[lane]` further on; they lie in `pieces` vectors.
template <class T>
void Planes<T>::copy(const T* x, int64_t vector, const PixelBlock& block, T* out) const {
  constexpr int L = Vec<T>::lanes;
  using Lane = typename Int<T>::Lane;
  const int64_t first = vector * L / oc * ic;
  Int<T> lane, piece;
  int64_t last = 0;
  for (int l = 0; l < L; ++l) {
    last = min_of(vector * L + l, outputs - 1) / oc * ic - first;
    lane.r[l] = static_cast<Lane>(last % L);
    piece.r[l] = static_cast<Lane>(last / L);
  }
  const int64_t pieces = last / L + 1;
  const T* const end = x + n * h * w * c;
  const auto read = [end](const T* p) { return end - p >= L ? load(p) : load_n(p, end - p); };

  const int64_t tall = copied(v, block.t1 - block.t0, row_step);
  const int64_t wide = copied(u, block.q1 - block.q0, column_step);
  const int64_t top = block.t0 * v.source_step + v.offset, left = block.q0 * u.source_step + u.offset;
  const int64_t begin = min_of(left < 0 ? ceil_div(-left, column_step) : 0, wide);
  const int64_t inside = left < w ? max_of(min_of(ceil_div(w - left, column_step), wide), begin) : begin;
  for (int64_t image = block.image0; image < block.image1; ++image) {
    T* to_row = out + (image - block.image0) * image_size();
    for (int64_t r = 0; r < tall; ++r, to_row += row_size()) {
      const int64_t row = top + r * row_step;
      if (row < 0 || row >= h || begin == inside) {
        zero_run(to_row, wide * column_size());
        continue;
      }
      zero_run(to_row, begin * column_size());
      const T* from = x + ((image * h + row) * w + left + begin * column_step) * c + first;
      T* to = to_row + begin * column_size();
      for (int64_t q = begin; q < inside; ++q, from += column_step * c) {
        for (int64_t k = 0; k < ic; ++k, to += L) {
          Vec<T> a = permute(read(from + k), lane);
          for (int64_t m = 1; m < pieces; ++m)
            a = select(eq(piece, set1_int<T>(static_cast<Lane>(m))), permute(read(from + k + m * L), lane),
                       a);
          store(to, a);
        }
      }
      zero_run(to, (wide - inside) * column_size());
    }
  }
}

namespace {

// ---------------------------------------------------------------- a sweep
template <class T>
struct Tasks {
  Planes<T> planes;
  int64_t vectors, blocks;  // of a task
  explicit Tasks(const Sweep<T>& s) : planes(plan_planes(s)) {
    const int64_t flops = planes.block_flops();
    vectors = max_of(min_of(kTaskFlops / flops, planes.vectors), 1);
    blocks = max_of(kTaskFlops / (flops * vectors), 1);
  }
  int64_t vector_blocks() const { return ceil_div(planes.vectors, vectors); }
  int64_t count() const { return vector_blocks() * ceil_div(planes.blocks(), blocks); }
};

template <class T>
int64_t sweep_tasks(const Sweep<T>& s) {
  return Tasks<T>(s).count();
}
template <class T>
int64_t sweep_scratch(const Sweep<T>& s) {
  return plan_planes(s).size() * static_cast<int64_t>(sizeof(T));
}

// Weights lie as [vector][tap][k][lane].
template <class T>
int64_t sweep_pack_tasks(const Sweep<T>& s) {
  return ceil_div(s.groups * s.oc, Vec<T>::lanes);
}
template <class T>
int64_t sweep_packed_bytes(const Sweep<T>& s) {
  return round_up(sweep_pack_tasks(s) * Vec<T>::lanes * s.depth * static_cast<int64_t>(sizeof(T)), 64);
}
template <class T>
void sweep_pack(const Sweep<T>& s, const WeightsAt<T>& w, void* packed, int64_t vector) {
  constexpr int L = Vec<T>::lanes;
  T* to = static_cast<T*>(packed) + vector * s.depth * L;
  const T* lanes[L];
  for (int l = 0; l < L; ++l) {
    const int64_t o = min_of(vector * L + l, s.groups * s.oc - 1);
    lanes[l] = w.base + o / s.oc * w.group_step + o % s.oc * w.o_step;
  }
  for (int64_t i = 0; i < s.v.taps; ++i) {
    for (int64_t j = 0; j < s.u.taps; ++j) {
      const int64_t tap = w.tap(s, i, j) - w.base;
      for (int64_t k = 0; k < s.ic; ++k, to += L)
        for (int l = 0; l < L; ++l) to[l] = lanes[l][tap + k * w.k_step];
    }
  }
}

// What is the same for all pixels of a vector of outputs.
template <class T>
struct Lanes {
  const Planes<T>& planes;
  const T* weights;
  const T* bias;
  int64_t relu;
  int64_t count;    // lanes in use
  int64_t to_step;  // of y, from pixel to pixel
};

template <class T, int P>
void sum_pixels(const Lanes<T>& lanes, const T* from, T* to) {
  constexpr int L = Vec<T>::lanes;
  const Planes<T>& f = lanes.planes;
  const int64_t rows = f.v.taps, below = f.tap_below(), runs = f.runs(), run = f.run(), right = f.tap_right();
  const int64_t step = f.pixel_right(), n = lanes.count;
  const T* w = lanes.weights;
  Vec<T> sum[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) sum[p] = zero<T>();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < runs; ++j) {
      const T* a = from + i * below + j * right;
      for (int64_t k = 0; k < run; ++k, a += L, w += L) {
        const Vec<T> b = load(w);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) sum[p] = fma(load(a + p * step), b, sum[p]);
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    Vec<T> r = sum[p];
    if (lanes.bias) r = r + load_n(lanes.bias, n);
    if (lanes.relu) r = max(zero<T>(), r);
    if (n >= L)
      store(to + p * lanes.to_step, r);
    else
      store_n(to + p * lanes.to_step, r, n);
  }
}

template <class T>
void sweep_run(const Sweep<T>& s, const T* x, const WeightsAt<T>&, const void* packed, const T* bias,
               int64_t relu, T* y, void* scratch, int64_t task) {
  constexpr int L = Vec<T>::lanes;
  using Sum = void (*)(const Lanes<T>&, const T*, T*);
  constexpr Sum sums[kPixels + 1] = {nullptr,          sum_pixels<T, 1>, sum_pixels<T, 2>,
                                     sum_pixels<T, 3>, sum_pixels<T, 4>, sum_pixels<T, 5>,
                                     sum_pixels<T, 6>, sum_pixels<T, 7>, sum_pixels<T, 8>};
  const Tasks<T> tasks(s);
  const Planes<T>& f = tasks.planes;
  T* copy = static_cast<T*>(scratch);
  const int64_t vector0 = task % tasks.vector_blocks() * tasks.vectors;
  const int64_t block0 = task / tasks.vector_blocks() * tasks.blocks;
  for (int64_t index = block0; index < min_of(block0 + tasks.blocks, f.blocks()); ++index) {
    const PixelBlock block = f.block(index);
    const int64_t wide = block.q1 - block.q0, parts = ceil_div(wide, kPixels);
    for (int64_t vector = vector0; vector < min_of(vector0 + tasks.vectors, f.vectors); ++vector) {
      const int64_t o = vector * L;
      const Lanes<T> lanes{f,
                           static_cast<const T*>(packed) + o * s.depth,
                           bias ? bias + o : nullptr,
                           relu,
                           f.outputs - o,
                           s.u.out_step * f.outputs};
      f.copy(x, vector, block, copy);
      for (int64_t image = block.image0; image < block.image1; ++image) {
        for (int64_t t = block.t0; t < block.t1; ++t) {
          const T* from = copy + (image - block.image0) * f.image_size() + (t - block.t0) * f.pixel_below();
          T* to = y + o +
                  ((image * s.out_h + s.v.out_begin + t * s.v.out_step) * s.out_w + s.u.out_begin +
                   block.q0 * s.u.out_step) *
                      f.outputs;
          for (int64_t part = 0, q = 0; part < parts; ++part) {
            const int64_t next = wide * (part + 1) / parts;
            sums[next - q](lanes, from + q * f.pixel_right(), to + q * lanes.to_step);
            q = next;
          }
        }
      }
    }
  }
}

}  // namespace

// A group by itself takes the time of some 20 multiplications beside its own; together, where both factors come from memory, each takes 2.3
// times as long; so does each read and each write of the copy.
template <class T>
GroupCosts group_costs(const Sweep<T>& s, int64_t copies) {
  constexpr int64_t L = Vec<T>::lanes;
  const int64_t taps = s.v.taps * s.u.taps, pieces = (L - 1) / s.oc * s.ic / L + 1;
  const int64_t apart = s.groups * (ceil_div(s.oc, L) * taps * s.ic + 20);
  const int64_t together = ceil_div(s.groups * s.oc, L) * (s.ic * (taps + pieces + 1) + copies);
  return {10 * apart, 23 * together};
}

template <class T>
bool grouped_pays(const Sweep<T>& s, int64_t copies) {
  if (s.groups <= 1 || s.ic == 0 || s.oc == 0) return false;
  const GroupCosts costs = group_costs(s, copies);
  return costs.together < costs.apart;
}

template <class T>
SweepWay<T> grouped_way() {
  return {sweep_pack_tasks<T>, sweep_packed_bytes<T>, sweep_pack<T>,
          sweep_tasks<T>,      sweep_scratch<T>,      sweep_run<T>};
}

#define GROUPED(T)                                                                                  \
  template Planes<T> plan_planes(const Sweep<T>& s);                                                \
  template PixelBlock Planes<T>::block(int64_t index) const;                                        \
  template void Planes<T>::copy(const T* x, int64_t vector, const PixelBlock& block, T* out) const; \
  template GroupCosts group_costs(const Sweep<T>& s, int64_t copies);                               \
  template bool grouped_pays(const Sweep<T>& s, int64_t copies);                                    \
  template SweepWay<T> grouped_way();
GROUPED(float)
GROUPED(double)

}  // namespace cnnmath::CNNMATH_ISA
