// The gradient of the weights in groups of few channels (grouped.h): sums over blocks of pixels. The blocks are cut into
// chunks; with more than one, partial sums go to the workspace and phase 1 adds them in order.
#include "kernels/conv/grouped.h"
#include "kernels/tile/pack.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kChunkFlops = int64_t{kVecBytes} << 16;
constexpr int64_t kChunks = 32;
constexpr int64_t kPartialBytes = 16 << 20;
constexpr int64_t kCombine = 16 << 10;  // elements of a task of phase 1
constexpr int kSums = 8;                // of a tile

template <class T>
struct Plan {
  Planes<T> planes;
  int64_t size;     // of dw
  int64_t chunks;   // of the blocks
  int64_t vectors;  // of outputs, of a task
  int64_t vector_blocks() const { return ceil_div(planes.vectors, vectors); }
  int64_t dy_size() const { return planes.images * planes.rows * planes.columns * Vec<T>::lanes; }
};

template <class T>
Sweep<T> weight_sweep(const ConvShape& s) {
  Sweep<T> f{};
  f.v = forward_axis(s.oh, s.kh, s.sh, s.dh, s.pt);
  f.u = forward_axis(s.ow, s.kw, s.sw, s.dw, s.pl);
  f.n = s.n, f.h = s.h, f.w = s.w, f.c = s.c;
  f.groups = s.groups, f.ic = s.c / s.groups, f.oc = s.oc / s.groups;
  return f;
}

template <class T>
Plan<T> plan_of(const ConvShape& s) {
  Plan<T> f{};
  f.planes = plan_planes(weight_sweep<T>(s));
  f.size = s.kh * s.kw * f.planes.ic * s.oc;
  const int64_t blocks = f.planes.blocks(), flops = f.planes.block_flops() * blocks * f.planes.vectors;
  const bool small = conv_flops(s) <= kSmallFlops;
  const int64_t tasks = small ? 1 : min_of(flops / kChunkFlops, kChunks);
  const int64_t most = kPartialBytes / max_of(f.size * static_cast<int64_t>(sizeof(T)), 1);
  f.chunks = max_of(min_of(min_of(tasks, most), blocks), 1);
  f.vectors = max_of(f.planes.vectors / max_of(tasks / f.chunks, 1), 1);
  return f;
}

template <class T>
int weight_phases(const int64_t* p) {
  return plan_of<T>(conv_shape(p)).chunks > 1 ? 2 : 1;
}
template <class T>
int64_t weight_tasks(const int64_t* p, int phase) {
  const Plan<T> f = plan_of<T>(conv_shape(p));
  return phase == 1 ? ceil_div(f.size, kCombine) : f.vector_blocks() * f.chunks;
}
template <class T>
int64_t weight_workspace(const int64_t* p) {
  const Plan<T> f = plan_of<T>(conv_shape(p));
  return f.chunks > 1 ? f.chunks * f.size * static_cast<int64_t>(sizeof(T)) : 0;
}
template <class T>
int64_t weight_scratch(const int64_t* p) {
  const Plan<T> f = plan_of<T>(conv_shape(p));
  return (f.planes.size() + f.dy_size()) * static_cast<int64_t>(sizeof(T));
}

// A vector of dy under the pixels of a block, as [image][row][column][lane].
template <class T>
void copy_dy(const Planes<T>& f, const PixelBlock& b, const T* dy, int64_t vector, T* out) {
  constexpr int L = Vec<T>::lanes;
  const int64_t n = f.outputs - vector * L;
  for (int64_t image = b.image0; image < b.image1; ++image) {
    for (int64_t t = b.t0; t < b.t1; ++t) {
      const T* from = dy + ((image * f.v.outs + t) * f.u.outs + b.q0) * f.outputs + vector * L;
      T* to = out + ((image - b.image0) * f.rows + t - b.t0) * f.columns * L;
      for (int64_t q = 0; q < b.q1 - b.q0; ++q)
        store(to + q * L, n >= L ? load(from + q * f.outputs) : load_n(from + q * f.outputs, n));
    }
  }
}

// A adjacent vectors of dw under one block of pixels; sums in U parts, as many as hide the additions' latency.
template <class T, int A>
void add_sums(const Planes<T>& f, const PixelBlock& b, const T* planes, const T* dy, T* dw, int64_t n) {
  constexpr int L = Vec<T>::lanes, U = A > 4 ? 1 : A > 2 ? 2 : A > 1 ? 4 : 8;
  const int64_t step = f.pixel_right(), wide = b.q1 - b.q0;
  Vec<T> sum[U][A];
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) {
#pragma GCC unroll 8
    for (int a = 0; a < A; ++a) sum[u][a] = zero<T>();
  }
  for (int64_t image = 0; image < b.image1 - b.image0; ++image) {
    for (int64_t t = 0; t < b.t1 - b.t0; ++t) {
      const T* x = planes + image * f.image_size() + t * f.pixel_below();
      const T* d = dy + (image * f.rows + t) * f.columns * L;
      int64_t q = 0;
      for (; q + U <= wide; q += U, x += U * step, d += U * L) {
#pragma GCC unroll 8
        for (int u = 0; u < U; ++u) {
          const Vec<T> v = load(d + u * L);
#pragma GCC unroll 8
          for (int a = 0; a < A; ++a) sum[u][a] = fma(load(x + u * step + a * L), v, sum[u][a]);
        }
      }
      for (; q < wide; ++q, x += step, d += L) {
        const Vec<T> v = load(d);
#pragma GCC unroll 8
        for (int a = 0; a < A; ++a) sum[0][a] = fma(load(x + a * L), v, sum[0][a]);
      }
    }
  }
#pragma GCC unroll 8
  for (int a = 0; a < A; ++a) {
    Vec<T> all = sum[0][a];
#pragma GCC unroll 8
    for (int u = 1; u < U; ++u) all = all + sum[u][a];
    T* to = dw + a * f.outputs;
    if (n >= L)
      store(to, load(to) + all);
    else
      store_n(to, load_n(to, n) + all, n);
  }
}

template <class T>
void add_block(const Planes<T>& f, const PixelBlock& block, int64_t vector, const T* planes, const T* dy,
               T* dw) {
  constexpr int L = Vec<T>::lanes;
  using Add = void (*)(const Planes<T>&, const PixelBlock&, const T*, const T*, T*, int64_t);
  constexpr Add adds[kSums + 1] = {nullptr,        add_sums<T, 1>, add_sums<T, 2>,
                                   add_sums<T, 3>, add_sums<T, 4>, add_sums<T, 5>,
                                   add_sums<T, 6>, add_sums<T, 7>, add_sums<T, 8>};
  const int64_t run = f.run(), parts = ceil_div(run, kSums);
  dw += vector * L;
  for (int64_t i = 0; i < f.v.taps; ++i) {
    for (int64_t j = 0; j < f.runs(); ++j, dw += run * f.outputs) {
      const T* x = planes + i * f.tap_below() + j * f.tap_right();
      for (int64_t part = 0, a = 0; part < parts; ++part) {
        const int64_t next = run * (part + 1) / parts;
        adds[next - a](f, block, x + a * L, dy, dw + a * f.outputs, f.outputs - vector * L);
        a = next;
      }
    }
  }
}

template <class T>
void weight_run(const Task& t) {
  constexpr int L = Vec<T>::lanes;
  const ConvShape& s = conv_shape(t.p);
  const Plan<T> f = plan_of<T>(s);
  const Planes<T>& planes = f.planes;
  const T* x = static_cast<const T*>(t.a[0]);
  const T* dy = static_cast<const T*>(t.a[1]);
  T* dw = static_cast<T*>(t.a[2]);
  T* partial = static_cast<T*>(t.workspace);
  if (t.phase == 1) {
    const int64_t end = min_of((t.index + 1) * kCombine, f.size);
    for (int64_t i = t.index * kCombine; i < end; i += L) {
      const int64_t n = min_of(end - i, L);
      Vec<T> sum = load_n(partial + i, n);
      for (int64_t k = 1; k < f.chunks; ++k) sum = sum + load_n(partial + k * f.size + i, n);
      store_n(dw + i, sum, n);
    }
    return;
  }
  const int64_t chunk = t.index % f.chunks, vector0 = t.index / f.chunks * f.vectors;
  const int64_t vector1 = min_of(vector0 + f.vectors, planes.vectors);
  if (f.chunks > 1) dw = partial + chunk * f.size;
  for (int64_t k = 0; k < f.size; k += planes.outputs)
    zero_run(dw + k + vector0 * L, min_of(vector1 * L, planes.outputs) - vector0 * L);
  T* copy = static_cast<T*>(t.scratch);
  T* dy_copy = copy + planes.size();
  const int64_t blocks = planes.blocks();
  for (int64_t index = blocks * chunk / f.chunks; index < blocks * (chunk + 1) / f.chunks; ++index) {
    const PixelBlock block = planes.block(index);
    for (int64_t vector = vector0; vector < vector1; ++vector) {
      planes.copy(x, vector, block, copy);
      copy_dy(planes, block, dy, vector, dy_copy);
      add_block(planes, block, vector, copy, dy_copy, dw);
    }
  }
}

}  // namespace

template <class T>
bool grouped_grad_weight_pays(const ConvShape& s) {
  return s.groups > 1 && grouped_pays(weight_sweep<T>(s), 1);
}

#define PART(T)                                                                                        \
  template bool grouped_grad_weight_pays<T>(const ConvShape& s);                                       \
  template <>                                                                                          \
  ConvPart grouped_grad_weight_part<T>() {                                                             \
    return {weight_phases<T>, weight_tasks<T>, weight_workspace<T>, weight_scratch<T>, weight_run<T>}; \
  }
PART(float)
PART(double)

}  // namespace cnnmath::CNNMATH_ISA
