#include "kernels/conv/dots.h"

#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int kOutputs = 4;  // at a time
// Pixels at a time, for 1 to 4 outputs: sums, weights and one vector of x fill the registers.
constexpr int kPixels[kOutputs] = {kVecRegisters >= 32 ? 12 : 8, kVecRegisters >= 32 ? 10 : 4,
                                   kVecRegisters >= 32 ? 8 : 3, kVecRegisters >= 32 ? 6 : 2};

template <class T>
struct Plan {
  bool merged;         // the taps of a row are one run
  int64_t blocks;      // of the sum
  int64_t run;         // numbers in a block
  int64_t run_padded;  // in whole vectors
};

template <class T>
Plan<T> plan(const Sweep<T>& s) {
  Plan<T> f{};
  f.merged = s.u.taps == 1 || s.u.offset_step == 1;
  f.blocks = f.merged ? s.v.taps : s.v.taps * s.u.taps;
  f.run = s.depth / f.blocks;
  f.run_padded = round_up(f.run, Vec<T>::lanes);
  return f;
}

template <class T>
int64_t tasks(const Sweep<T>& s) {
  return s.tasks();
}

template <class T>
int64_t pack_tasks(const Sweep<T>& s) {
  return s.groups * plan(s).blocks;
}

// Of one group.
template <class T>
int64_t packed_size(const Sweep<T>& s, const Plan<T>& f) {
  return s.oc * f.blocks * f.run_padded;
}

template <class T>
int64_t packed_bytes(const Sweep<T>& s) {
  return round_up(s.groups * packed_size(s, plan(s)) * static_cast<int64_t>(sizeof(T)), 64);
}

template <class T>
void pack(const Sweep<T>& s, const WeightsAt<T>& w, void* packed, int64_t task) {
  constexpr int64_t L = Vec<T>::lanes;
  const Plan<T> f = plan(s);
  const int64_t group = task / f.blocks, block = task % f.blocks;
  for (int64_t first = 0; first < s.oc; first += kOutputs) {
    const int64_t outputs = min_of(s.oc - first, kOutputs);
    T* to = static_cast<T*>(packed) + group * packed_size(s, f) +
            (first * f.blocks + block * outputs) * f.run_padded;
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t k = 0; k < f.run_padded; ++k) {
        const int64_t i = f.merged ? block : block / s.u.taps;
        const int64_t j = f.merged ? k / s.ic : block % s.u.taps;
        to[(k / L * outputs + o) * L + k % L] =
            k < f.run ? w.tap(s, i, j)[k % s.ic * w.k_step + (first + o) * w.o_step + group * w.group_step]
                      : T{0};
      }
    }
  }
}

template <class T>
struct Call {
  int64_t blocks, run;
  const int64_t* offset;  // of each block in the source
  const T* packed;
  const T* bias;
  int64_t relu;
};

// `o` outputs of kPixels[o - 1] pixels.
template <class T, int O>
void tile(const T* const* x, T* const* y, int64_t first, const Call<T>& call) {
  constexpr int L = Vec<T>::lanes, P = kPixels[O - 1];
  Vec<T> sum[P][O];
#pragma GCC unroll 12
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int o = 0; o < O; ++o) sum[p][o] = zero<T>();
  const T* weights = call.packed;
  for (int64_t block = 0; block < call.blocks; ++block) {
    const int64_t from = call.offset[block], whole = call.run / L * L, rest = call.run - whole;
    for (int64_t k = 0; k < call.run; k += L, weights += O * L) {
      Vec<T> w[O];
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) w[o] = load(weights + o * L);
#pragma GCC unroll 12
      for (int p = 0; p < P; ++p) {
        const T* at = x[p] + from + k;
        const Vec<T> v = k < whole ? load(at) : load_n(at, rest);
#pragma GCC unroll 4
        for (int o = 0; o < O; ++o) fma_to(sum[p][o], v, w[o]);
      }
    }
  }
#pragma GCC unroll 12
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int o = 0; o < O; ++o) {
      T value = hsum(sum[p][o]);
      if (call.bias) value += call.bias[first + o];
      if (call.relu && value < 0) value = 0;
      y[p][first + o] = value;
    }
  }
}

template <class T>
void run(const Sweep<T>& s, const T* x, const WeightsAt<T>&, const void* packed, const T* bias, int64_t relu,
         T* y, void* scratch, int64_t task) {
  const Plan<T> f = plan(s);
  const Pixels<T> pixels = find_pixels(s, x, y, scratch, task);
  for (int64_t b = 0; b < f.blocks; ++b)
    pixels.a_offset[b] = f.merged ? b * s.v.offset_step * pixels.row_step
                                  : b / s.u.taps * s.v.offset_step * pixels.row_step +
                                        b % s.u.taps * s.u.offset_step * pixels.pixel_step;
  constexpr void (*tiles[kOutputs])(const T* const*, T* const*, int64_t, const Call<T>&) = {
      tile<T, 1>, tile<T, 2>, tile<T, 3>, tile<T, 4>};
  const T* weights = static_cast<const T*>(packed) + pixels.group * packed_size(s, f);
  if (bias) bias += pixels.group * s.oc;
  // The weights of four outputs stay near while a few pixels pass.
  for (int64_t first = 0; first < s.oc; first += kOutputs) {
    const int64_t outputs = min_of(s.oc - first, kOutputs);
    const Call<T> call{f.blocks, f.run, pixels.a_offset, weights + first * f.blocks * f.run_padded,
                       bias,     relu};
    for (int64_t i = 0; i < pixels.count; i += kPixels[outputs - 1])
      tiles[outputs - 1](pixels.source + i, pixels.out + i, first, call);
  }
}

}  // namespace

template <class T>
bool dots_pays(const Sweep<T>& s) {
  constexpr int64_t L = Vec<T>::lanes;
  if (s.oc > 12 || s.ic < L || s.depth < 4 * L || s.u.outs == 0) return false;
  const Plan<T> f = plan(s);
  return 4 * f.run >= 3 * f.run_padded;
}

template <class T>
SweepWay<T> dots_way() {
  return {pack_tasks<T>, packed_bytes<T>, pack<T>, tasks<T>, pixels_scratch<T>, run<T>};
}

template bool dots_pays<float>(const Sweep<float>&);
template bool dots_pays<double>(const Sweep<double>&);
template SweepWay<float> dots_way<float>();
template SweepWay<double> dots_way<double>();

}  // namespace cnnmath::CNNMATH_ISA
