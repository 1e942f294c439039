// conv2d_winograd and conv2d_winograd_grad_input: a sweep by Winograd that does what stands before and behind it as well.
//
// Phase 0 packs the weights, phase 1 sweeps; its tasks leave sums over their outputs, which phase 2 adds up in order and in double.
#include "kernels/conv/parts.h"
#include "kernels/conv/winograd.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

using Float = const float*;
constexpr int64_t kGroup = 64;  // channels that a task of phase 2 adds up

Float in(const Task& t, int i) { return static_cast<Float>(t.a[i]); }
float* out(const Task& t, int i) { return static_cast<float*>(t.a[i]); }

Sweep<float> forward(const int64_t* p) { return forward_sweep<float>(conv_shape(p)); }
Sweep<float> pooled(const int64_t* p) { return pool_sweep<float>(conv_shape(p)); }
Sweep<float> backward(const int64_t* p) { return grad_sweep<float>(conv_shape(p), 0); }

using SweepOf = Sweep<float> (*)(const int64_t* p);

int phases(const int64_t*) { return 3; }

template <SweepOf sweep>
int64_t tasks(const int64_t* p, int phase) {
  const Sweep<float> s = sweep(p);
  const SweepWay<float> way = winograd_way<float>(s);
  return phase == 0 ? way.pack_tasks(s) : phase == 1 ? way.tasks(s) : ceil_div(s.oc, kGroup);
}

int64_t packed_bytes(const Sweep<float>& s) { return round_up(winograd_way<float>(s).packed_bytes(s), 64); }

template <SweepOf sweep>
int64_t workspace(const int64_t* p) {
  const Sweep<float> s = sweep(p);
  const WinogradParts parts = winograd_parts(s);
  return packed_bytes(s) + parts.count * parts.step * 4;
}

template <SweepOf sweep>
int64_t scratch(const int64_t* p) {
  const Sweep<float> s = sweep(p);
  return winograd_way<float>(s).scratch(s);
}

// The channels of one task of phase 2.
struct Columns {
  int64_t from, count;
};
Columns columns_of(const Sweep<float>& s, int64_t task) {
  return {task * kGroup, min_of(kGroup, s.oc - task * kGroup)};
}

// Moments of all pixels.
void merge_moments(const WinogradParts& parts, Float part, const Columns& at, float* mean, float* m2) {
  Moments all[kGroup];
  for (int64_t b = 0; b < parts.count; ++b, part += parts.step)
    for (int64_t i = 0; i < at.count; ++i)
      all[i].merge(static_cast<double>(part[2 * parts.outs]), static_cast<double>(part[at.from + i]),
                   static_cast<double>(part[parts.outs + at.from + i]));
  for (int64_t i = 0; i < at.count; ++i) {
    mean[at.from + i] = static_cast<float>(all[i].mean);
    m2[at.from + i] = static_cast<float>(all[i].m2);
  }
}

void add_sums(const WinogradParts& parts, Float part, const Columns& at, float* to) {
  double sum[kGroup] = {};
  for (int64_t b = 0; b < parts.count; ++b, part += parts.step)
    for (int64_t i = 0; i < at.count; ++i) sum[i] += static_cast<double>(part[at.from + i]);
  for (int64_t i = 0; i < at.count; ++i) to[at.from + i] = static_cast<float>(sum[i]);
}

// args: x norm? w bias? y mean? m2?
void forward_run(const Task& t) {
  const ConvShape& shape = conv_shape(t.p);
  const Sweep<float> s = forward(t.p);
  const WeightsAt<float> w = forward_weights(shape, s, in(t, 2));
  if (t.phase == 0) return winograd_way<float>(s).pack(s, w, t.workspace, t.index);
  float* parts = reinterpret_cast<float*>(static_cast<char*>(t.workspace) + packed_bytes(s));
  float *mean = out(t, 5), *m2 = out(t, 6);
  if (t.phase == 1) {
    WinogradExtras extras{};
    extras.source.norm = in(t, 1);
    extras.bias = in(t, 3);
    extras.relu = shape.relu;
    extras.parts = mean ? parts : nullptr;
    winograd_run(s, in(t, 0), extras, w, t.workspace, out(t, 4), t.scratch, t.index);
  } else if (mean) {
    merge_moments(winograd_parts(s), parts, columns_of(s, t.index), mean, m2);
  }
}

int pool_phases(const int64_t*) { return 2; }
int64_t pool_workspace(const int64_t* p) { return packed_bytes(pooled(p)); }

// args: x norm? w bias? y code?
void pool_run(const Task& t) {
  const ConvShape& shape = conv_shape(t.p);
  const Sweep<float> s = pooled(t.p);
  const WeightsAt<float> w = forward_weights(shape, s, in(t, 2));
  if (t.phase == 0) return winograd_way<float>(s).pack(s, w, t.workspace, t.index);
  WinogradExtras extras{};
  extras.source.norm = in(t, 1);
  extras.bias = in(t, 3);
  extras.relu = shape.relu;
  extras.pools = true;
  extras.codes = static_cast<uint8_t*>(t.a[5]);
  winograd_run(s, in(t, 0), extras, w, t.workspace, out(t, 4), t.scratch, t.index);
}

// args: dy code? w y? dx sum?
void backward_run(const Task& t) {
  const Sweep<float> s = backward(t.p);
  const WeightsAt<float> w = grad_weights(conv_shape(t.p), s, in(t, 2));
  if (t.phase == 0) return winograd_way<float>(s).pack(s, w, t.workspace, t.index);
  float* parts = reinterpret_cast<float*>(static_cast<char*>(t.workspace) + packed_bytes(s));
  float* sum = out(t, 5);
  if (t.phase == 1) {
    WinogradExtras extras{};
    extras.source.codes = static_cast<const uint8_t*>(t.a[1]);
    extras.passed = in(t, 3);
    extras.parts = sum ? parts : nullptr;
    winograd_run(s, in(t, 0), extras, w, t.workspace, out(t, 4), t.scratch, t.index);
  } else if (sum) {
    add_sums(winograd_parts(s), parts, columns_of(s, t.index), sum);
  }
}

}  // namespace

bool winograd_forward_takes(const ConvShape& s) {
  return conv_flops(s) > kSmallFlops && winograd_pays(forward_sweep<float>(s));
}
bool winograd_max_pool_takes(const ConvShape& s) {
  // By all outputs, too: with a pool or without, the bits are the same.
  return winograd_forward_takes(s) && winograd_pays(pool_sweep<float>(s));
}
bool winograd_grad_input_takes(const ConvShape& s) {
  return conv_flops(s) > kSmallFlops && s.sh * s.sw == 1 && !scatter_pays<float>(s) &&
         winograd_pays(grad_sweep<float>(s, 0));
}
ConvPart winograd_forward_part() {
  return {phases, tasks<forward>, workspace<forward>, scratch<forward>, forward_run};
}
ConvPart winograd_max_pool_part() {
  return {pool_phases, tasks<pooled>, pool_workspace, scratch<pooled>, pool_run};
}
ConvPart winograd_grad_input_part() {
  return {phases, tasks<backward>, workspace<backward>, scratch<backward>, backward_run};
}

}  // namespace cnnmath::CNNMATH_ISA
