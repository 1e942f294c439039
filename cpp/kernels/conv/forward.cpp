// conv2d and conv2d_grad_input as sweeps: phase 0 packs the weights (unless they can be read in
// place), phase 1 sweeps.
#include "kernels/conv/parts.h"
#include "kernels/conv/planar.h"
#include "kernels/conv/split_sweep.h"
#include "kernels/conv/sweep.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kPackRows = 64;

// Every kind of sweep.
template <class T>
int64_t sum_tasks(const Sweep<T>& s) {
  if (SplitSweep<T>::pays(s)) return SplitSweep<T>::tasks(s);
  return planar_pays(s) ? planar_tasks(s) : s.tasks();
}
template <class T>
int64_t pack_grad_tasks(const Sweep<T>& s) {
  if (SplitSweep<T>::pays(s)) return SplitSweep<T>::pack_tasks(s);
  return planar_pays(s) ? 1 : s.groups * s.panels.count;
}
template <class T>
int64_t packed_bytes(const Sweep<T>& s) {
  if (SplitSweep<T>::pays(s)) return SplitSweep<T>::packed_bytes(s);
  const int64_t size = planar_pays(s) ? planar_packed_size(s) : s.packed_size();
  return round_up(size * static_cast<int64_t>(sizeof(T)), 64);
}
template <class T>
int64_t scratch_bytes(const Sweep<T>& s) {
  if (SplitSweep<T>::pays(s)) return SplitSweep<T>::scratch(s);
  return planar_pays(s) ? planar_scratch(s) : sweep_scratch(s);
}
template <class T>
void run_sum(const Sweep<T>& s, const T* x, const WeightsAt<T>& w, SweepWeights<T> weights, const T* bias,
             int64_t relu, T* y, void* scratch, int64_t task) {
  if (SplitSweep<T>::pays(s))
    SplitSweep<T>::run(s, x, w, weights.base, bias, relu, y, scratch, task);
  else if (planar_pays(s))
    run_planar(s, x, weights.base, bias, relu, y, scratch, task);
  else
    run_sweep(s, x, weights, bias, relu, y, scratch, task);
}

// ---------------------------------------------------------------- forward
template <class T>
Sweep<T> forward_sweep(const ConvShape& s) {
  Sweep<T> f{};
  f.v = forward_axis(s.oh, s.kh, s.sh, s.dh, s.pt);
  f.u = forward_axis(s.ow, s.kw, s.sw, s.dw, s.pl);
  f.n = s.n, f.h = s.h, f.w = s.w, f.c = s.c;
  f.groups = s.groups, f.ic = s.c / s.groups, f.oc = s.oc / s.groups;
  f.out_h = s.oh, f.out_w = s.ow;
  plan_sweep(f);
  return f;
}

// Weights of one panel of full vectors lie as packed ones would, and few pixels would not repay the packing.
// (Several panels could be read in place too, but steps of more than a panel cost a tenth of the speed.)
template <class T>
bool in_place(const ConvShape& s, const Sweep<T>& f) {
  if (SplitSweep<T>::pays(f) || planar_pays(f)) return false;
  const int64_t oc = s.oc / s.groups;
  return oc % Vec<T>::lanes == 0 &&
         ((s.groups == 1 && panels_of<T>(oc).count == 1) || s.n * s.oh * s.ow <= 192);
}

template <class T>
WeightsAt<T> forward_weights(const ConvShape& s, const Sweep<T>& f, const T* w) {
  return {w, s.kw, f.ic * s.oc, s.oc, 1};
}

template <class T>
void pack_forward(const ConvShape& s, const Sweep<T>& f, const T* w, T* out, int64_t index) {
  if (SplitSweep<T>::pays(f)) {
    SplitSweep<T>::pack(f, forward_weights(s, f, w), out, index);
    return;
  }
  if (planar_pays(f)) {
    planar_pack(f, w, s.kw, f.ic * s.oc, s.oc, 1, out);
    return;
  }
  // Rows of all outputs are read from end to end.
  const int64_t group = index % f.groups, from = index / f.groups * kPackRows;
  const int64_t rows = f.depth - from < kPackRows ? f.depth - from : kPackRows;
  for (int64_t j = 0; j < f.panels.count; ++j) {
    const int64_t width = int64_t{f.panels.vectors(j)} * Vec<T>::lanes;
    T* to = out + f.depth * (group * f.panels.padded() + f.panels.begin(j)) + from * width;
    pack_panel(to, width, w + from * s.oc + group * f.oc + f.panels.begin(j), s.oc, 1, rows,
               f.panels.columns(j));
  }
}

template <class T>
int64_t pack_forward_tasks(const Sweep<T>& f) {
  if (SplitSweep<T>::pays(f)) return SplitSweep<T>::pack_tasks(f);
  return planar_pays(f) ? 1 : f.groups * ((f.depth + kPackRows - 1) / kPackRows);
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
  return phase + 1 < forward_phases<T>(p) ? pack_forward_tasks(f) : sum_tasks(f);
}

template <class T>
int64_t forward_workspace(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  const Sweep<T> f = forward_sweep<T>(s);
  return in_place(s, f) ? 0 : packed_bytes(f);
}

template <class T>
int64_t forward_scratch(const int64_t* p) {
  return scratch_bytes(forward_sweep<T>(conv_shape(p)));
}

template <class T>
void forward_run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const Sweep<T> f = forward_sweep<T>(s);
  const T* x = static_cast<const T*>(t.a[0]);
  const T* w = static_cast<const T*>(t.a[1]);
  const T* bias = static_cast<const T*>(t.a[2]);
  T* y = static_cast<T*>(t.a[3]);
  const bool packs = !in_place(s, f), small = conv_flops(s) <= kSmallFlops;
  if (packs && t.phase == 0) {
    const int64_t count = pack_forward_tasks(f);
    for (int64_t i = small ? 0 : t.index; i < (small ? count : t.index + 1); ++i)
      pack_forward(s, f, w, static_cast<T*>(t.workspace), i);
    return;
  }
  const SweepWeights<T> weights =
      packs ? SweepWeights<T>{static_cast<const T*>(t.workspace), 0} : SweepWeights<T>{w, s.oc};
  for (int64_t i = small ? 0 : t.index; i < (small ? sum_tasks(f) : t.index + 1); ++i)
    run_sum(f, x, forward_weights(s, f, w), weights, bias, s.relu, y, t.scratch, i);
}

// ---------------------------------------------------------------- gradient of the input
template <class T>
Sweep<T> grad_sweep(const ConvShape& s, int64_t residue) {
  Sweep<T> g{};
  g.v = grad_axis(s.h, s.kh, s.sh, s.dh, s.pt, residue / s.sw);
  g.u = grad_axis(s.w, s.kw, s.sw, s.dw, s.pl, residue % s.sw);
  if (g.v.taps == 0 || g.u.taps == 0) g.v.taps = g.u.taps = 0;
  g.n = s.n, g.h = s.oh, g.w = s.ow, g.c = s.oc;
  g.groups = s.groups, g.ic = s.oc / s.groups, g.oc = s.c / s.groups;
  g.out_h = s.h, g.out_w = s.w;
  plan_sweep(g);
  return g;
}

template <class T>
WeightsAt<T> grad_weights(const ConvShape& s, const Sweep<T>& g, const T* w) {
  return {w, s.kw, g.oc * s.oc, 1, s.oc};
}

template <class T>
void pack_grad(const ConvShape& s, const Sweep<T>& g, const T* w, T* out, int64_t index) {
  if (SplitSweep<T>::pays(g)) {
    SplitSweep<T>::pack(g, grad_weights(s, g, w), out, index);
    return;
  }
  if (planar_pays(g)) {
    planar_pack(g, w, s.kw, g.oc * s.oc, 1, s.oc, out);
    return;
  }
  const int64_t group = index / g.panels.count, j = index % g.panels.count;
  const int64_t width = int64_t{g.panels.vectors(j)} * Vec<T>::lanes;
  T* to = out + g.depth * (group * g.panels.padded() + g.panels.begin(j));
  for (int64_t a = 0; a < g.v.taps; ++a) {
    for (int64_t b = 0; b < g.u.taps; ++b, to += g.ic * width) {
      const int64_t tap = (g.v.tap_begin + a * g.v.tap_step) * s.kw + g.u.tap_begin + b * g.u.tap_step;
      pack_panel(to, width, w + (tap * g.oc + g.panels.begin(j)) * s.oc + group * g.ic, 1, s.oc, g.ic,
                 g.panels.columns(j));
    }
  }
}

int grad_phases(const int64_t*) { return 2; }

template <class T>
int64_t grad_tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  if (conv_flops(s) <= kSmallFlops) return 1;
  int64_t tasks = 0;
  for (int64_t r = 0; r < s.sh * s.sw; ++r) {
    const Sweep<T> g = grad_sweep<T>(s, r);
    tasks += phase == 0 ? pack_grad_tasks(g) : sum_tasks(g);
  }
  return tasks;
}

template <class T>
int64_t grad_workspace(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  int64_t bytes = 0;
  for (int64_t r = 0; r < s.sh * s.sw; ++r) bytes += packed_bytes(grad_sweep<T>(s, r));
  return bytes;
}

template <class T>
int64_t grad_scratch(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  int64_t bytes = 0;
  for (int64_t r = 0; r < s.sh * s.sw; ++r) {
    const int64_t b = scratch_bytes(grad_sweep<T>(s, r));
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
    const int64_t tasks = t.phase == 0 ? pack_grad_tasks(g) : sum_tasks(g);
    T* weights = reinterpret_cast<T*>(packed);
    for (int64_t i = small ? 0 : t.index - before; i >= 0 && i < tasks; ++i) {
      if (t.phase == 0)
        pack_grad(s, g, w, weights, i);
      else
        run_sum(g, dy, grad_weights(s, g, w), SweepWeights<T>{weights, 0}, static_cast<const T*>(nullptr), 0,
                dx, t.scratch, i);
      if (!small) return;
    }
    before += tasks;
    packed += packed_bytes(g);
  }
}

}  // namespace

#define PARTS(T)                                                                                            \
  template <>                                                                                               \
  ConvPart forward_part<T>() {                                                                              \
    return {forward_phases<T>, forward_tasks<T>, forward_workspace<T>, forward_scratch<T>, forward_run<T>}; \
  }                                                                                                         \
  template <>                                                                                               \
  ConvPart grad_input_part<T>() {                                                                           \
    return {grad_phases, grad_tasks<T>, grad_workspace<T>, grad_scratch<T>, grad_run<T>};                   \
  }
PARTS(float)
PARTS(double)

}  // namespace cnnmath::CNNMATH_ISA
