// conv2d_max_pool where the convolution is a direct one: a task sums the outputs of some images in its scratch, where they stay in
// L2, and writes the maxima of their 2 x 2 windows alone.
#include "kernels/conv/parts.h"
#include "kernels/conv/sweep.h"
#include "kernels/pool/largest.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kTaskFlops = int64_t{kVecBytes} << 16;
constexpr int64_t kMostBytes = 256 << 10;  // of outputs
constexpr int64_t kLeastTasks = 8;         // images are not cut

template <class T>
int64_t image_size(const Sweep<T>& s) {
  return s.v.outs * s.u.outs * s.oc;
}

// Images of a task.
template <class T>
int64_t images_of(const Sweep<T>& s) {
  const int64_t flops = 2 * s.depth * s.panels.padded() * s.v.outs * s.u.outs + 1;
  const int64_t fit = kMostBytes / (image_size(s) * static_cast<int64_t>(sizeof(T)) + 1);
  return max_of(min_of(min_of(kTaskFlops / flops, fit), s.n), 1);
}

int phases(const int64_t*) { return 2; }

template <class T>
int64_t tasks(const int64_t* p, int phase) {
  const ConvShape& shape = conv_shape(p);
  const Sweep<T> s = pool_sweep<T>(shape);
  if (phase == 0) return direct_way<T>().pack_tasks(s);
  return ceil_div(s.n, images_of(s));
}

template <class T>
int64_t workspace(const int64_t* p) {
  return direct_way<T>().packed_bytes(pool_sweep<T>(conv_shape(p)));
}

template <class T>
int64_t outputs_bytes(const Sweep<T>& s) {
  return round_up(images_of(s) * image_size(s) * static_cast<int64_t>(sizeof(T)), 64);
}
template <class T>
int64_t scratch(const int64_t* p) {
  const Sweep<T> s = pool_sweep<T>(conv_shape(p));
  return outputs_bytes(s) + pixels_scratch(whole_images(s, images_of(s)));
}

// The maxima of one image's outputs and, unless code is null, their places.
template <class T>
void put_maxima(const Sweep<T>& s, const T* sums, T* y, uint8_t* code) {
  constexpr int L = Vec<T>::lanes;
  const int64_t line = s.u.outs * s.oc, columns = s.u.outs / 2;
  for (int64_t i = 0; i < s.v.outs / 2; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const T* from = sums + 2 * i * line + 2 * j * s.oc;
      const int64_t at = (i * columns + j) * s.oc;
      for (int64_t o = 0; o < s.oc; o += L) {
        const int64_t n = min_of(s.oc - o, L);
        const T* corner = from + o;
        const Vec<T> v[4] = {load_n(corner, n), load_n(corner + s.oc, n), load_n(corner + line, n),
                             load_n(corner + line + s.oc, n)};
        if (!code) {
          store_n(y + at + o, max_nan(max_nan(v[0], v[1]), max_nan(v[2], v[3])), n);
          continue;
        }
        Largest<T> best{v[0], zero_int<T>()};
#pragma GCC unroll 3
        for (int k = 1; k < 4; ++k) best.meet(v[k], k);
        store_n(y + at + o, best.value, n);
        uint8_t bytes[L];
        store_u8<T>(n == L ? code + at + o : bytes, best.place);
        for (int64_t k = 0; n < L && k < n; ++k) code[at + o + k] = bytes[k];
      }
    }
  }
}

// args: x w bias? y code?
template <class T>
void run(const Task& t) {
  const ConvShape& shape = conv_shape(t.p);
  const Sweep<T> s = pool_sweep<T>(shape);
  const SweepWay<T> way = direct_way<T>();
  const WeightsAt<T> weights = forward_weights(shape, s, static_cast<const T*>(t.a[1]));
  if (t.phase == 0) return way.pack(s, weights, t.workspace, t.index);
  const int64_t images = images_of(s), first = t.index * images, count = min_of(images, s.n - first);
  T* sums = static_cast<T*>(t.scratch);
  const int64_t maxima = s.v.outs / 2 * (s.u.outs / 2) * s.oc;
  way.run(whole_images(s, count), static_cast<const T*>(t.a[0]) + first * s.h * s.w * s.c, weights,
          t.workspace, static_cast<const T*>(t.a[2]), shape.relu, sums,
          static_cast<char*>(t.scratch) + outputs_bytes(s), 0);
  for (int64_t i = 0; i < count; ++i) {
    uint8_t* code = static_cast<uint8_t*>(t.a[4]);
    put_maxima(s, sums + i * image_size(s), static_cast<T*>(t.a[3]) + (first + i) * maxima,
               code ? code + (first + i) * maxima : nullptr);
  }
}

}  // namespace

template <class T>
bool direct_pool_pays(const ConvShape& s) {
  if (conv_flops(s) <= kSmallFlops || !forward_is_direct<T>(s)) return false;
  const Sweep<T> f = pool_sweep<T>(s);
  return image_size(f) > 0 && ceil_div(f.n, images_of(f)) >= kLeastTasks &&
         image_size(f) * static_cast<int64_t>(sizeof(T)) <= kMostBytes;
}

template <class T>
ConvPart direct_pool_part() {
  return {phases, tasks<T>, workspace<T>, scratch<T>, run<T>};
}

template bool direct_pool_pays<float>(const ConvShape&);
template bool direct_pool_pays<double>(const ConvShape&);
template ConvPart direct_pool_part<float>();
template ConvPart direct_pool_part<double>();

}  // namespace cnnmath::CNNMATH_ISA
