// conv2d and conv2d_grad_input as sweeps, in the way that suits the shape: phase 0 packs the weights (unless they can be read in
// place), phase 1 sweeps.
#include "kernels/conv/dots.h"
#include "kernels/conv/grouped.h"
#include "kernels/conv/parts.h"
#include "kernels/conv/planar.h"
#include "kernels/conv/split_sweep.h"
#include "kernels/conv/sweep.h"
#include "kernels/conv/winograd.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

// Of a sweep without taps: the places of a gradient that no window meets. There is no bias.
template <class T>
SweepWay<T> empty_way() {
  static constexpr int64_t kRowsTogether = 8;
  return {[](const Sweep<T>&) { return int64_t{0}; },
          [](const Sweep<T>&) { return int64_t{0}; },
          [](const Sweep<T>&, const WeightsAt<T>&, void*, int64_t) {},
          [](const Sweep<T>& s) { return ceil_div(s.n * s.v.outs, kRowsTogether); },
          [](const Sweep<T>&) { return int64_t{0}; },
          [](const Sweep<T>& s, const T*, const WeightsAt<T>&, const void*, const T*, int64_t, T* y, void*,
             int64_t task) {
            const int64_t channels = s.groups * s.oc,
                          end = min_of((task + 1) * kRowsTogether, s.n * s.v.outs);
            for (int64_t r = task * kRowsTogether; r < end; ++r) {
              const int64_t row = s.v.out_begin + r % s.v.outs * s.v.out_step;
              T* to = y + ((r / s.v.outs * s.out_h + row) * s.out_w + s.u.out_begin) * channels;
              for (int64_t q = 0; q < s.u.outs; ++q) zero_run(to + q * s.u.out_step * channels, channels);
            }
          }};
}

template <class T>
SweepWay<T> way_of(const Sweep<T>& s) {
  if (s.v.taps == 0 && s.u.taps == 0) return empty_way<T>();
  if (s.groups > 1 && planar_pays(s)) return planar_way<T>();  // before the others
  if (grouped_pays(s, 0)) return grouped_way<T>();
  if (winograd_pays(s)) return winograd_way<T>(s);
  if (split_pays(s)) return split_way<T>();
  if (dots_pays(s)) return dots_way<T>();
  if (planar_pays(s)) return planar_way<T>();
  return direct_way<T>();
}

// ---------------------------------------------------------------- forward
// Weights of one panel of full vectors lie as packed ones would, and few pixels would not repay the packing.
// (Several panels could be read in place too, but steps of more than a panel cost a tenth of the speed.)
template <class T>
bool in_place(const ConvShape& s, const Sweep<T>& f) {
  if (way_of(f).run != direct_way<T>().run) return false;
  const int64_t oc = s.oc / s.groups;
  return oc % Vec<T>::lanes == 0 &&
         ((s.groups == 1 && panels_of<T>(oc).count == 1) || s.n * s.oh * s.ow <= 192);
}

template <class T>
int forward_phases(const int64_t* p) {
  return in_place(conv_shape(p), forward_sweep<T>(conv_shape(p))) ? 1 : 2;
}

template <class T>
int64_t forward_tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  if (conv_flops(s) <= kSmallFlops) return 1;
  const Sweep<T> f = forward_sweep<T>(s);
  return phase + 1 < forward_phases<T>(p) ? way_of(f).pack_tasks(f) : way_of(f).tasks(f);
}

template <class T>
int64_t forward_workspace(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  const Sweep<T> f = forward_sweep<T>(s);
  return in_place(s, f) ? 0 : way_of(f).packed_bytes(f);
}

template <class T>
int64_t forward_scratch(const int64_t* p) {
  const Sweep<T> f = forward_sweep<T>(conv_shape(p));
  return way_of(f).scratch(f);
}

template <class T>
void forward_run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const Sweep<T> f = forward_sweep<T>(s);
  const T* x = static_cast<const T*>(t.a[0]);
  const T* w = static_cast<const T*>(t.a[1]);
  const T* bias = static_cast<const T*>(t.a[2]);
  T* y = static_cast<T*>(t.a[3]);
  const SweepWay<T> way = way_of(f);
  const WeightsAt<T> weights = forward_weights(s, f, w);
  const bool packs = !in_place(s, f), small = conv_flops(s) <= kSmallFlops;
  const bool packing = packs && t.phase == 0;
  const int64_t tasks = small ? (packing ? way.pack_tasks(f) : way.tasks(f)) : t.index + 1;
  for (int64_t i = small ? 0 : t.index; i < tasks; ++i) {
    if (packing)
      way.pack(f, weights, t.workspace, i);
    else
      way.run(f, x, weights, packs ? t.workspace : nullptr, bias, s.relu, y, t.scratch, i);
  }
}

// ---------------------------------------------------------------- forward, with a max-pool behind it
int pool_phases(const int64_t*) { return 2; }

template <class T>
int64_t pool_tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  if (conv_flops(s) <= kSmallFlops) return 1;
  const Sweep<T> f = pool_sweep<T>(s);
  return phase == 0 ? planar_pool<T>().pack_tasks(f) : planar_pool<T>().tasks(f);
}

template <class T>
int64_t pool_workspace(const int64_t* p) {
  return planar_pool<T>().packed_bytes(pool_sweep<T>(conv_shape(p)));
}

template <class T>
int64_t pool_scratch(const int64_t* p) {
  return planar_pool<T>().scratch(pool_sweep<T>(conv_shape(p)));
}

template <class T>
void pool_run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const Sweep<T> f = pool_sweep<T>(s);
  const PlanarPool<T> way = planar_pool<T>();
  const bool small = conv_flops(s) <= kSmallFlops, packing = t.phase == 0;
  const int64_t tasks = small ? (packing ? way.pack_tasks(f) : way.tasks(f)) : t.index + 1;
  for (int64_t i = small ? 0 : t.index; i < tasks; ++i) {
    if (packing)
      way.pack(f, forward_weights(s, f, static_cast<const T*>(t.a[1])), t.workspace, i);
    else
      way.run(f, static_cast<const T*>(t.a[0]), t.workspace, static_cast<const T*>(t.a[2]), s.relu,
              static_cast<T*>(t.a[3]), static_cast<uint8_t*>(t.a[4]), t.scratch, i);
  }
}

// ---------------------------------------------------------------- gradient of the input
int grad_phases(const int64_t*) { return 2; }

template <class T>
int64_t grad_tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  if (conv_flops(s) <= kSmallFlops) return 1;
  int64_t tasks = 0;
  for (int64_t r = 0; r < s.sh * s.sw; ++r) {
    const Sweep<T> g = grad_sweep<T>(s, r);
    tasks += phase == 0 ? way_of(g).pack_tasks(g) : way_of(g).tasks(g);
  }
  return tasks;
}

template <class T>
int64_t grad_workspace(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  int64_t bytes = 0;
  for (int64_t r = 0; r < s.sh * s.sw; ++r) {
    const Sweep<T> g = grad_sweep<T>(s, r);
    bytes += way_of(g).packed_bytes(g);
  }
  return bytes;
}

template <class T>
int64_t grad_scratch(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  int64_t bytes = 0;
  for (int64_t r = 0; r < s.sh * s.sw; ++r) {
    const Sweep<T> g = grad_sweep<T>(s, r);
    const int64_t b = way_of(g).scratch(g);
    bytes = b > bytes ? b : bytes;
  }
  return bytes;
}

template <class T>
void grad_run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const T* dy = static_cast<const T*>(t.a[0]);
  const T* w = static_cast<const T*>(t.a[1]);
  T* dx = static_cast<T*>(t.a[2]);
  const bool small = conv_flops(s) <= kSmallFlops;
  char* packed = static_cast<char*>(t.workspace);
  int64_t before = 0;
  for (int64_t r = 0; r < s.sh * s.sw; ++r) {
    const Sweep<T> g = grad_sweep<T>(s, r);
    const SweepWay<T> way = way_of(g);
    const int64_t tasks = t.phase == 0 ? way.pack_tasks(g) : way.tasks(g);
    for (int64_t i = small ? 0 : t.index - before; i >= 0 && i < tasks; ++i) {
      if (t.phase == 0)
        way.pack(g, grad_weights(s, g, w), packed, i);
      else
        way.run(g, dy, grad_weights(s, g, w), packed, nullptr, 0, dx, t.scratch, i);
      if (!small) return;
    }
    before += tasks;
    packed += way.packed_bytes(g);
  }
}

}  // namespace

template <class T>
bool grad_input_multiplies_fast(const ConvShape& s) {
  // The residue that meets the first tap, and so the most.
  const Sweep<T> g = grad_sweep<T>(s, (s.sh - s.pt % s.sh) % s.sh * s.sw + (s.sw - s.pl % s.sw) % s.sw);
  return winograd_pays(g) || (split_pays(g) && (s.c > 16 || s.sh * s.sw == 1));
}

template <class T>
bool forward_is_direct(const ConvShape& s) {
  return s.groups == 1 && way_of(forward_sweep<T>(s)).run == direct_way<T>().run;
}

#define PARTS(T)                                                                                            \
  template <>                                                                                               \
  ConvPart forward_part<T>() {                                                                              \
    return {forward_phases<T>, forward_tasks<T>, forward_workspace<T>, forward_scratch<T>, forward_run<T>}; \
  }                                                                                                         \
  template <>                                                                                               \
  ConvPart max_pool_part<T>() {                                                                             \
    return {pool_phases, pool_tasks<T>, pool_workspace<T>, pool_scratch<T>, pool_run<T>};                   \
  }                                                                                                         \
  template <>                                                                                               \
  ConvPart grad_input_part<T>() {                                                                           \
    return {grad_phases, grad_tasks<T>, grad_workspace<T>, grad_scratch<T>, grad_run<T>};                   \
  }                                                                                                         \
  template bool forward_is_direct<T>(const ConvShape&);                                                     \
  template bool grad_input_multiplies_fast<T>(const ConvShape&);
PARTS(float)
PARTS(double)

}  // namespace cnnmath::CNNMATH_ISA
