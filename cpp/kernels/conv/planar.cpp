#include "kernels/conv/planar.h"

#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kTaskFlops = int64_t{kVecBytes} << 14;
constexpr int kPlanarRows = 16;  // no tile is taller
constexpr int64_t kPlaneBytes = 256 << 10;

// How the work is cut, from the shape alone.
template <class T>
struct PlanarPlan {
  bool along_columns;        // k runs over the columns of the window, else over channels
  int64_t blocks, depth;     // of the sum
  int64_t rows, row_blocks;  // output rows of a task, cut within an image,
  int64_t images;            // or several images, one after the other
  int64_t row, plane;        // steps in the copy
};

template <class T>
PlanarPlan<T> plan(const Sweep<T>& s) {
  constexpr int L = Vec<T>::lanes;
  PlanarPlan<T> f{};
  f.along_columns = s.u.taps > s.ic;
  f.depth = f.along_columns ? s.u.taps : s.ic;
  f.blocks = s.depth / f.depth;
  // A tile reads whole vectors, up to a vector beyond the last column.
  f.row = round_up(s.u.outs, L) + (s.u.taps - 1) * s.u.offset_step;
  const int64_t flops = 2 * s.depth * round_up(s.oc, 4) * max_of(s.u.outs, 1);
  const int64_t halo = (s.v.taps - 1) * s.v.offset_step;
  const int64_t fits = kPlaneBytes / (f.row * s.ic * static_cast<int64_t>(sizeof(T)));
  f.rows = max_of(min_of(kTaskFlops / flops, max_of(fits - halo, halo) / s.v.source_step), 1);
  f.rows = min_of(f.rows, max_of(s.v.outs, 1));
  f.row_blocks = ceil_div(s.v.outs, f.rows);
  if (f.row_blocks) f.rows = ceil_div(s.v.outs, f.row_blocks);
  f.images = f.row_blocks == 1 ? max_of(min_of(kTaskFlops / (flops * f.rows), s.n), 1) : 1;
  const int64_t source_rows = (f.rows - 1) * s.v.source_step + halo + 1;
  f.plane = source_rows * f.row + 2 * L;
  return f;
}

// Rows [from, to) of one image, as planes.
template <class T>
void copy_planes(const Sweep<T>& s, const PlanarPlan<T>& f, const T* image, int64_t from, int64_t to,
                 T* out) {
  const int64_t left = s.u.source_begin(0);
  const int64_t begin = min_of(max_of(-left, 0), f.row), end = max_of(min_of(s.w - left, f.row), begin);
  for (int64_t r = from; r < to; ++r, out += f.row) {
    if (r < 0 || r >= s.h || begin == end) {
      for (int64_t k = 0; k < s.ic; ++k) zero_run(out + k * f.plane, f.row);
      continue;
    }
    const T* row = image + (r * s.w + left + begin) * s.c;
    for (int64_t k = 0; k < s.ic; ++k) zero_run(out + k * f.plane, begin);
    if (s.c == 1) {
      copy_run(out + begin, row, end - begin);
    } else {
      // Squares may spill zeros over the end of the row: what lies there is written later.
      for (int64_t q = begin; q < end; q += Vec<T>::lanes)
        pack_transposed(out + q, f.plane, row + (q - begin) * s.c, s.c, s.ic, end - q);
    }
    for (int64_t k = 0; k < s.ic; ++k) zero_run(out + k * f.plane + end, f.row - end);
  }
}

template <class T>
int64_t planar_tasks(const Sweep<T>& s) {
  const PlanarPlan<T> f = plan(s);
  return ceil_div(s.n, f.images) * f.row_blocks;
}
template <class T>
int64_t planar_pack_tasks(const Sweep<T>&) {
  return 1;
}
template <class T>
int64_t planar_packed_bytes(const Sweep<T>& s) {
  return round_up(s.oc * s.depth * static_cast<int64_t>(sizeof(T)), 64);
}

template <class T>
int64_t planar_scratch(const Sweep<T>& s) {
  const PlanarPlan<T> f = plan(s);
  const int64_t lists = round_up(2 * f.blocks * static_cast<int64_t>(sizeof(int64_t)), 64);
  return lists + s.ic * f.plane * static_cast<int64_t>(sizeof(T));
}

template <class T>
void planar_pack(const Sweep<T>& s, const WeightsAt<T>& w, void* packed, int64_t) {
  const bool along_columns = plan(s).along_columns;
  for (int64_t o = 0; o < s.oc; ++o)
    for (int64_t i = 0; i < s.v.taps; ++i)
      for (int64_t j = 0; j < s.u.taps; ++j)
        for (int64_t k = 0; k < s.ic; ++k) {
          const int64_t at = along_columns ? (i * s.ic + k) * s.u.taps + j : (i * s.u.taps + j) * s.ic + k;
          static_cast<T*>(packed)[o * s.depth + at] = w.tap(s, i, j)[k * w.k_step + o * w.o_step];
        }
}

template <class T>
void planar_run(const Sweep<T>& s, const T* x, const WeightsAt<T>&, const void* packed, const T* bias,
                int64_t relu, T* y, void* scratch, int64_t task) {
  constexpr int L = Vec<T>::lanes;
  const PlanarPlan<T> f = plan(s);
  const int64_t row0 = task % f.row_blocks * f.rows, row1 = min_of(row0 + f.rows, s.v.outs);
  const int64_t image0 = task / f.row_blocks * f.images, image1 = min_of(image0 + f.images, s.n);

  int64_t* a_offset = static_cast<int64_t*>(scratch);
  int64_t* b_offset = a_offset + f.blocks;
  T* planes = reinterpret_cast<T*>(static_cast<char*>(scratch) +
                                   round_up(2 * f.blocks * static_cast<int64_t>(sizeof(int64_t)), 64));
  const int64_t inner = f.along_columns ? s.ic : s.u.taps;
  for (int64_t b = 0; b < f.blocks; ++b) {
    a_offset[b] = b * f.depth;
    b_offset[b] =
        b / inner * s.v.offset_step * f.row + b % inner * (f.along_columns ? f.plane : s.u.offset_step);
  }

  constexpr int kMost = 3;          // vectors
  T sums[kPlanarRows * kMost * L];  // a tile, channel after channel
  const T* a[kPlanarRows];
  T* c[kPlanarRows];
  const int most = tile_max_vectors<T>() < kMost ? tile_max_vectors<T>() : kMost;
  const Vec<T> shift = bias ? load_n(bias, s.oc) : zero<T>();
  for (int64_t image = image0; image < image1; ++image) {
    copy_planes(s, f, x + image * s.h * s.w * s.c, s.v.source_begin(row0), s.v.source_end(row1), planes);
    for (int64_t t = row0; t < row1; ++t) {
      const T* source = planes + (t - row0) * s.v.source_step * f.row;
      T* out = y + ((image * s.out_h + s.v.out_begin + t * s.v.out_step) * s.out_w + s.u.out_begin) * s.oc;
      for (int64_t q = 0; q < s.u.outs;) {
        const int64_t left = ceil_div(s.u.outs - q, L);
        const int nv = static_cast<int>(left > most ? (left == most + 1 ? 2 : most) : left);
        const Tile<T>* tiles = row_tiles<T>(nv);
        for (int64_t o = 0; o < s.oc;) {
          // The lowest tile that takes the rest, else the tallest.
          const Tile<T>* tile = tiles;
          while (tile->m > 1 && tile[1].m >= s.oc - o) ++tile;
          for (int i = 0; i < tile->m; ++i) {
            const int64_t at = min_of(o + i, s.oc - 1);
            a[i] = static_cast<const T*>(packed) + at * s.depth;
            c[i] = sums + at * kMost * L;
          }
          tile->run(a, c,
                    {f.blocks, a_offset, b_offset, f.depth, source + q,
                     f.along_columns ? s.u.offset_step : f.plane, 0, 0, int64_t{nv} * L, nullptr, 0, 0});
          o += tile->m;
        }
        for (int v = 0; v < nv; ++v, q += L) {
          Vec<T> square[L];
#pragma GCC unroll 16
          for (int i = 0; i < L; ++i) square[i] = i < s.oc ? load(sums + (i * kMost + v) * L) : zero<T>();
          transpose(square);
#pragma GCC unroll 16
          for (int i = 0; i < L; ++i) {
            Vec<T> r = square[i] + shift;
            if (relu) r = max(zero<T>(), r);
            if (q + i < s.u.outs) store_n(out + (q + i) * s.u.out_step * s.oc, r, s.oc);
          }
        }
      }
    }
  }
}

}  // namespace

template <class T>
bool planar_pays(const Sweep<T>& s) {
  constexpr int64_t L = Vec<T>::lanes;
  if (s.groups != 1 || s.oc > L || s.oc > kPlanarRows || s.u.source_step != 1 || s.depth == 0 ||
      s.u.outs == 0)
    return false;
  // Lanes spent on a pixel, either way; a tile one vector wide runs at two thirds.
  const int64_t rows = s.oc == 1 ? 1 : round_up(s.oc, 2);
  return rows * round_up(s.u.outs, L) * 3 < 4 * L * s.u.outs;
}

template <class T>
SweepWay<T> planar_way() {
  return {planar_pack_tasks<T>, planar_packed_bytes<T>, planar_pack<T>,
          planar_tasks<T>,      planar_scratch<T>,      planar_run<T>};
}

template bool planar_pays<float>(const Sweep<float>&);
template bool planar_pays<double>(const Sweep<double>&);
template SweepWay<float> planar_way<float>();
template SweepWay<double> planar_way<double>();

}  // namespace cnnmath::CNNMATH_ISA
