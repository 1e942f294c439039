#include "kernels/conv/planar.h"

#include "kernels/conv/grouped.h"
#include "kernels/pool/largest.h"
#include "simd/interleave.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kTaskFlops = int64_t{kVecBytes} << 14;
constexpr int kPlanarRows = 16;  // no tile is taller
constexpr int64_t kPlaneBytes = 256 << 10;
constexpr int64_t kMostInGroups = 128;  // channels of all groups

constexpr int kMost = 3;  // vectors of a stretch of a row

// How the work is cut, from the shape alone.
template <class T>
struct PlanarPlan {
  bool along_columns;        // k runs over the columns of the window, else over channels
  int64_t blocks, depth;     // of the sum
  int64_t rows, row_blocks;  // output rows of a task, cut within an image,
  int64_t images;            // or several images, one after the other
  int64_t row, plane;        // steps in the copy
};

// The rows of a task are a multiple of `together`, as are those of the map.
template <class T>
PlanarPlan<T> plan(const Sweep<T>& s, int64_t together = 1) {
  constexpr int L = Vec<T>::lanes;
  PlanarPlan<T> f{};
  f.along_columns = s.u.taps > s.ic;
  f.depth = f.along_columns ? s.u.taps : s.ic;
  f.blocks = s.depth / f.depth;
  // A tile reads whole vectors, up to a vector beyond the last column.
  f.row = round_up(s.u.outs, L) + (s.u.taps - 1) * s.u.offset_step;
  const int64_t flops = 2 * s.depth * s.groups * round_up(s.oc, 4) * max_of(s.u.outs, 1);
  const int64_t halo = (s.v.taps - 1) * s.v.offset_step;
  const int64_t fits = kPlaneBytes / (f.row * s.c * static_cast<int64_t>(sizeof(T)));
  f.rows = max_of(min_of(kTaskFlops / flops, max_of(fits - halo, halo) / s.v.source_step), 1);
  f.rows = min_of(round_up(f.rows, together), max_of(s.v.outs, 1));
  f.row_blocks = ceil_div(s.v.outs, f.rows);
  if (f.row_blocks) f.rows = round_up(ceil_div(s.v.outs, f.row_blocks), together);
  f.images = f.row_blocks == 1 ? max_of(min_of(kTaskFlops / (flops * f.rows), s.n), 1) : 1;
  const int64_t source_rows = (f.rows - 1) * s.v.source_step + halo + 1;
  f.plane = source_rows * f.row + 2 * L;
  return f;
}

// f.operator()<R>() for the R that is n, where so few numbers of a pixel are interleaved; else false.
template <class T, int R = kMostInterleaved<T>, class F>
CNNMATH_INLINE bool for_few(int64_t n, F f) {
  if constexpr (R == 0) {
    return false;
  } else {
    if (n != R) return for_few<T, R - 1>(n, f);
    f.template operator()<R>();
    return true;
  }
}

// n pixels of R channels as planes, whole vectors of each: zeros behind the last pixel.
template <class T, int R>
void split_pixels(const T* from, int64_t n, T* to, int64_t plane) {
  constexpr int L = Vec<T>::lanes;
  for (int64_t q = 0; q < n; q += L) {
    Vec<T> v[R];
#pragma GCC unroll 8
    for (int k = 0; k < R; ++k) v[k] = load_n(from + q * R + k * L, max_of((n - q) * R - k * L, 0));
    pixels_to_planes(v);
#pragma GCC unroll 8
    for (int k = 0; k < R; ++k) store(to + k * plane + q, v[k]);
  }
}

template <class T>
void copy_pixels(const T* from, int64_t n, int64_t channels, T* to, int64_t plane) {
  const bool few = for_few<T>(channels, [&]<int R>() { split_pixels<T, R>(from, n, to, plane); });
  if (few) return;
  for (int64_t q = 0; q < n; q += Vec<T>::lanes)
    pack_transposed(to + q, plane, from + q * channels, channels, channels, n - q);
}

// Rows [from, to) of one image, as planes.
template <class T>
void copy_planes(const Sweep<T>& s, const PlanarPlan<T>& f, const T* image, int64_t from, int64_t to,
                 T* out) {
  const int64_t left = s.u.source_begin(0);
  const int64_t begin = min_of(max_of(-left, 0), f.row), end = max_of(min_of(s.w - left, f.row), begin);
  for (int64_t r = from; r < to; ++r, out += f.row) {
    if (r < 0 || r >= s.h || begin == end) {
      for (int64_t k = 0; k < s.c; ++k) zero_run(out + k * f.plane, f.row);
      continue;
    }
    const T* row = image + (r * s.w + left + begin) * s.c;
    for (int64_t k = 0; k < s.c; ++k) zero_run(out + k * f.plane, begin);
    if (s.c == 1) {
      copy_run(out + begin, row, end - begin);
    } else {
      // The last vectors may spill zeros over the end of the row: what lies there is written later.
      copy_pixels(row, end - begin, s.c, out + begin, f.plane);
    }
    for (int64_t k = 0; k < s.c; ++k) zero_run(out + k * f.plane + end, f.row - end);
  }
}

template <class T>
int64_t tasks_of(const Sweep<T>& s, const PlanarPlan<T>& f) {
  return ceil_div(s.n, f.images) * f.row_blocks;
}
template <class T>
int64_t planar_tasks(const Sweep<T>& s) {
  return tasks_of(s, plan(s));
}
template <class T>
int64_t planar_pack_tasks(const Sweep<T>&) {
  return 1;
}
template <class T>
int64_t planar_packed_bytes(const Sweep<T>& s) {
  return round_up(s.groups * s.oc * s.depth * static_cast<int64_t>(sizeof(T)), 64);
}

// Sums of a stretch of a row.
template <class T>
int64_t sums_of(const Sweep<T>& s) {
  return s.groups * s.oc * kMost * Vec<T>::lanes;
}

// Lists, sums of two rows, planes.
template <class T>
int64_t scratch_of(const Sweep<T>& s, const PlanarPlan<T>& f) {
  const int64_t lists = round_up(2 * f.blocks * static_cast<int64_t>(sizeof(int64_t)), 64);
  return lists + (2 * sums_of(s) + s.c * f.plane) * static_cast<int64_t>(sizeof(T));
}
template <class T>
int64_t planar_scratch(const Sweep<T>& s) {
  return scratch_of(s, plan(s));
}

template <class T>
void planar_pack(const Sweep<T>& s, const WeightsAt<T>& w, void* packed, int64_t) {
  const bool along_columns = plan(s).along_columns;
  for (int64_t o = 0; o < s.groups * s.oc; ++o) {
    const int64_t output = o / s.oc * w.group_step + o % s.oc * w.o_step;
    for (int64_t i = 0; i < s.v.taps; ++i)
      for (int64_t j = 0; j < s.u.taps; ++j)
        for (int64_t k = 0; k < s.ic; ++k) {
          const int64_t at = along_columns ? (i * s.ic + k) * s.u.taps + j : (i * s.u.taps + j) * s.ic + k;
          static_cast<T*>(packed)[o * s.depth + at] = w.tap(s, i, j)[k * w.k_step + output];
        }
  }
}

// What a task works with.
template <class T>
struct PlanarTask {
  const Sweep<T>& s;
  const PlanarPlan<T>& f;
  const T* packed;
  int64_t row0, row1, image0, image1;
  int64_t *a_offset, *b_offset;
  T *sums, *planes;

  PlanarTask(const Sweep<T>& sweep, const PlanarPlan<T>& plan, const void* weights, void* scratch,
             int64_t task)
      : s(sweep), f(plan), packed(static_cast<const T*>(weights)) {
    row0 = task % f.row_blocks * f.rows, row1 = min_of(row0 + f.rows, s.v.outs);
    image0 = task / f.row_blocks * f.images, image1 = min_of(image0 + f.images, s.n);
    a_offset = static_cast<int64_t*>(scratch);
    b_offset = a_offset + f.blocks;
    sums = reinterpret_cast<T*>(static_cast<char*>(scratch) +
                                round_up(2 * f.blocks * static_cast<int64_t>(sizeof(int64_t)), 64));
    planes = sums + 2 * sums_of(s);
    const int64_t inner = f.along_columns ? s.ic : s.u.taps;
    for (int64_t b = 0; b < f.blocks; ++b) {
      a_offset[b] = b * f.depth;
      b_offset[b] =
          b / inner * s.v.offset_step * f.row + b % inner * (f.along_columns ? f.plane : s.u.offset_step);
    }
  }

  void copy(const T* x, int64_t image) const {
    copy_planes(s, f, x + image * s.h * s.w * s.c, s.v.source_begin(row0), s.v.source_end(row1), planes);
  }

  // The vectors of the stretch that begins at column q.
  static int vectors(int64_t columns, int64_t q) {
    const int most = tile_max_vectors<T>() < kMost ? tile_max_vectors<T>() : kMost;
    const int64_t left = ceil_div(columns - q, Vec<T>::lanes);
    return static_cast<int>(left > most ? (left == most + 1 ? 2 : most) : left);
  }

  // nv vectors of row t from column q on: to[(o * kMost + vector) * lanes + lane].
  void stretch(int64_t t, int64_t q, int nv, T* to) const {
    constexpr int L = Vec<T>::lanes;
    const Tile<T>* tiles = row_tiles<T>(nv);
    const T* a[kPlanarRows];
    T* c[kPlanarRows];
    for (int64_t group = 0; group < s.groups; ++group) {
      const T* source = planes + group * s.ic * f.plane + (t - row0) * s.v.source_step * f.row + q;
      for (int64_t o = 0; o < s.oc;) {
        // The lowest tile that takes the rest, else the tallest.
        const Tile<T>* tile = tiles;
        while (tile->m > 1 && tile[1].m >= s.oc - o) ++tile;
        for (int i = 0; i < tile->m; ++i) {
          const int64_t at = group * s.oc + min_of(o + i, s.oc - 1);
          a[i] = packed + at * s.depth;
          c[i] = to + at * kMost * L;
        }
        tile->run(a, c,
                  {f.blocks, a_offset, b_offset, f.depth, source, f.along_columns ? s.u.offset_step : f.plane,
                   0, 0, int64_t{nv} * L, nullptr, 0, 0});
        o += tile->m;
      }
    }
  }
};

// What becomes of a vector of pixels' sums, [output][kMost][lane]: n of them go to y.
template <class T>
struct Ending {
  const T* bias;
  int64_t relu;
  int64_t outputs;
  int64_t step;  // of y, from pixel to pixel
};

template <class T>
void put_pixels(const Ending<T>& ending, const T* sums, T* y, int64_t n) {
  constexpr int L = Vec<T>::lanes;
  for (int64_t o = 0; o < ending.outputs; o += L, sums += L * kMost * L, y += L) {
    const int64_t outputs = min_of(ending.outputs - o, L);
    const Vec<T> shift = ending.bias ? load_n(ending.bias + o, outputs) : zero<T>();
    Vec<T> square[L];
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) square[i] = i < outputs ? load(sums + i * kMost * L) : zero<T>();
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) {
      Vec<T> r = square[i] + shift;
      if (ending.relu) r = max(zero<T>(), r);
      if (i < n) store_n(y + i * ending.step, r, outputs);
    }
  }
}

// n pixels of R numbers from as many planes, pixels side by side. The planes are lost.
template <class T, int R>
CNNMATH_INLINE void store_pixels(Vec<T> (&planes)[R], T* y, int64_t n) {
  constexpr int L = Vec<T>::lanes;
  planes_to_pixels(planes);
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) store_n(y + i * L, planes[i], min_of(max_of(n * R - i * L, 0), L));
}

// R outputs, pixels side by side.
template <class T, int R>
void put_few(const Ending<T>& ending, const T* sums, T* y, int64_t n) {
  Vec<T> v[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
    v[i] = load(sums + i * kMost * Vec<T>::lanes) + (ending.bias ? set1(ending.bias[i]) : zero<T>());
    if (ending.relu) v[i] = max(zero<T>(), v[i]);
  }
  store_pixels(v, y, n);
}

template <class T>
using Put = void (*)(const Ending<T>&, const T*, T*, int64_t);

template <class T>
Put<T> put_of(const Ending<T>& ending) {
  Put<T> put = put_pixels<T>;
  if (ending.step == ending.outputs) for_few<T>(ending.outputs, [&]<int R>() { put = put_few<T, R>; });
  return put;
}

template <class T>
void planar_run(const Sweep<T>& s, const T* x, const WeightsAt<T>&, const void* packed, const T* bias,
                int64_t relu, T* y, void* scratch, int64_t task) {
  constexpr int L = Vec<T>::lanes;
  const PlanarPlan<T> f = plan(s);
  const PlanarTask<T> work(s, f, packed, scratch, task);
  const int64_t outputs = s.groups * s.oc;
  const Ending<T> ending{bias, relu, outputs, s.u.out_step * outputs};
  const Put<T> put = put_of(ending);
  for (int64_t image = work.image0; image < work.image1; ++image) {
    work.copy(x, image);
    for (int64_t t = work.row0; t < work.row1; ++t) {
      T* out = y + ((image * s.out_h + s.v.out_begin + t * s.v.out_step) * s.out_w + s.u.out_begin) * outputs;
      for (int64_t q = 0; q < s.u.outs;) {
        const int nv = work.vectors(s.u.outs, q);
        work.stretch(t, q, nv, work.sums);
        for (int v = 0; v < nv; ++v, q += L)
          put(ending, work.sums + v * L, out + q * ending.step, s.u.outs - q);
      }
    }
  }
}

CNNMATH_INLINE void copy_bytes(uint8_t* to, const uint8_t* from, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) __builtin_memcpy(to + i, from + i, 8);
  for (; i < n; ++i) to[i] = from[i];
}

// The sums of two rows, [output][kMost][lane] each, and the vector of either from which on a vector of maxima is taken; `second` tells
// whether another one follows it.
template <class T>
struct PoolSums {
  const T *upper, *lower;
  bool second;
};

// The largest of each window, for output o; without places where nobody asks for them.
template <class T>
CNNMATH_INLINE Largest<T> largest_of(const Ending<T>& ending, const PoolSums<T>& sums, int64_t o,
                                     bool places) {
  constexpr int L = Vec<T>::lanes;
  const Vec<T> shift = set1(ending.bias ? ending.bias[o] : T{0});
  const int64_t at = o * kMost * L;
  const auto end = [&](Vec<T> v) __attribute__((always_inline)) {
    v = v + shift;
    return ending.relu ? max(zero<T>(), v) : v;
  };
  const auto vector = [&](const T* row, bool there)
                          __attribute__((always_inline)) { return there ? load(row + at) : zero<T>(); };
  const Vec<T> a = vector(sums.upper, true), b = vector(sums.upper + L, sums.second);
  const Vec<T> c = vector(sums.lower, true), d = vector(sums.lower + L, sums.second);
  if (!places) {  // neither the bias nor relu changes the order
    const Vec<T> left = max_nan(a, c), right = max_nan(b, d);
    return {end(max_nan(evens(left, right), odds(left, right))), zero_int<T>()};
  }
  Largest<T> best{end(evens(a, b)), zero_int<T>()};
  best.meet(end(odds(a, b)), 1);
  best.meet(end(evens(c, d)), 2);
  best.meet(end(odds(c, d)), 3);
  return best;
}

// n pixels of maxima, and their codes unless code is null.
template <class T>
using PutLargest = void (*)(const Ending<T>& ending, const PoolSums<T>& sums, T* y, uint8_t* code, int64_t n);

// R outputs.
template <class T, int R>
void put_largest_few(const Ending<T>& ending, const PoolSums<T>& sums, T* y, uint8_t* code, int64_t n) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> values[R], places[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
    const Largest<T> best = largest_of(ending, sums, i, code != nullptr);
    values[i] = best.value;
    places[i] = from_bits<T>(best.place);
  }
  store_pixels(values, y, n);
  if (!code) return;
  planes_to_pixels(places);
  uint8_t bytes[R * L + 8];  // copied eight at a time
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) store_u8<T>(bytes + i * L, bits(places[i]));
  copy_bytes(code, bytes, n * R);
}

template <class T>
void put_largest(const Ending<T>& ending, const PoolSums<T>& sums, T* y, uint8_t* code, int64_t n) {
  constexpr int L = Vec<T>::lanes;
  for (int64_t o = 0; o < ending.outputs; o += L) {
    const int64_t m = min_of(ending.outputs - o, L);
    Vec<T> values[L], places[L];
    for (int64_t i = 0; i < L; ++i) {
      Largest<T> best{zero<T>(), zero_int<T>()};
      if (i < m) best = largest_of(ending, sums, o + i, code != nullptr);
      values[i] = best.value;
      places[i] = from_bits<T>(best.place);
    }
    transpose(values);
    for (int64_t i = 0; i < n; ++i) store_n(y + o + i * ending.step, values[i], m);
    if (!code) continue;
    transpose(places);
    // Each store runs over into the place of the next pixel, which comes after it.
    uint8_t bytes[L * L + L];
    for (int64_t i = 0; i < n; ++i) store_u8<T>(bytes + i * m, bits(places[i]));
    if (m == ending.outputs) {
      copy_bytes(code, bytes, n * m);
    } else {
      for (int64_t i = 0; i < n; ++i) copy_bytes(code + o + i * ending.step, bytes + i * m, m);
    }
  }
}

template <class T>
void planar_pool_run(const Sweep<T>& s, const T* x, const void* packed, const T* bias, int64_t relu, T* y,
                     uint8_t* code, void* scratch, int64_t task) {
  constexpr int L = Vec<T>::lanes;
  const PlanarPlan<T> f = plan(s, 2);
  const PlanarTask<T> work(s, f, packed, scratch, task);
  const int64_t columns = s.u.outs / 2;
  const Ending<T> ending{bias, relu, s.oc, s.oc};
  PutLargest<T> put = put_largest<T>;
  for_few<T>(s.oc, [&]<int R>() { put = put_largest_few<T, R>; });
  T* const sums[2] = {work.sums, work.sums + sums_of(s)};
  for (int64_t image = work.image0; image < work.image1; ++image) {
    work.copy(x, image);
    for (int64_t t = work.row0; t < work.row1; t += 2) {
      const int64_t row = (image * s.v.outs + t) / 2 * columns;
      for (int64_t q = 0; q < s.u.outs;) {
        const int nv = work.vectors(s.u.outs, q);
        work.stretch(t, q, nv, sums[0]);
        work.stretch(t + 1, q, nv, sums[1]);
        for (int v = 0; v < nv; v += 2) {
          const int64_t column = q / 2 + v / 2 * L, at = (row + column) * s.oc;
          put(ending, {sums[0] + v * L, sums[1] + v * L, v + 1 < nv}, y + at, code ? code + at : nullptr,
              min_of(columns - column, L));
        }
        q += int64_t{nv} * L;
      }
    }
  }
}

}  // namespace

template <class T>
bool planar_pays(const Sweep<T>& s) {
  constexpr int64_t L = Vec<T>::lanes;
  if (s.u.source_step != 1 || s.depth == 0 || s.u.outs == 0 || s.oc == 0) return false;
  if (s.groups > 1) {
    if (s.c > kMostInGroups || s.groups * s.oc > kMostInGroups) return false;
    // Cycles for a vector of pixels: 80 to turn a square of numbers, one for a multiplication, 20 for a tile. (The other ways do two
    // multiplications in a cycle; the copies of the one for groups, counted a second time, show where there are few taps.)
    const int64_t turned = 80 * (ceil_div(s.c, L) + ceil_div(s.groups * s.oc, L));
    const int64_t tiles = s.groups * (20 + max_of(round_up(s.oc, 2), 3) * s.depth);
    const GroupCosts others = group_costs(s, 2 * s.ic);
    return (turned + tiles) * round_up(s.u.outs, L) <
           min_of(others.apart, others.together) * L / 20 * s.u.outs;
  }
  if (s.oc > L || s.oc > kPlanarRows) return false;
  // Lanes spent on a pixel, either way; turning pixels into planes and back takes an eighth more.
  const int64_t rows = s.oc == 1 ? 1 : round_up(s.oc, 2);
  return rows * round_up(s.u.outs, L) * 9 < 4 * kNarrowHalves * L * s.u.outs;
}

template <class T>
SweepWay<T> planar_way() {
  return {planar_pack_tasks<T>, planar_packed_bytes<T>, planar_pack<T>,
          planar_tasks<T>,      planar_scratch<T>,      planar_run<T>};
}

template <class T>
PlanarPool<T> planar_pool() {
  return {planar_pack_tasks<T>,
          planar_packed_bytes<T>,
          planar_pack<T>,
          [](const Sweep<T>& s) { return tasks_of(s, plan(s, 2)); },
          [](const Sweep<T>& s) { return scratch_of(s, plan(s, 2)); },
          planar_pool_run<T>};
}

template PlanarPool<float> planar_pool<float>();
template PlanarPool<double> planar_pool<double>();
template bool planar_pays<float>(const Sweep<float>&);
template bool planar_pays<double>(const Sweep<double>&);
template SweepWay<float> planar_way<float>();
template SweepWay<double> planar_way<double>();

}  // namespace cnnmath::CNNMATH_ISA
