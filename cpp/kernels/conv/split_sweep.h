// A float32 sweep on a matrix unit for bfloat16 (kernels/tile/split.h).
//
// A task splits its part of the source into three planes in scratch, padded, and multiplies in place: a tile of A is
// 16 pixels at equal distances, one behind the other along a row or, where rows are short, along the padded copy (what falls
// on the padding is thrown away). The weights are split ahead, for all tasks.
#pragma once
#include "kernels/conv/sweep.h"

namespace cnnmath::CNNMATH_ISA {

// Where the weight of tap (i, j), source channel k and output o lies: base[tap * tap_step + k * k_step + o * o_step], tap
// counted in w.
template <class T>
struct WeightsAt {
  const T* base;
  int64_t kernel_width;
  int64_t tap_step, k_step, o_step;
};

// Where there is no such unit, or no such type.
template <class T>
struct SplitSweep {
  static bool pays(const Sweep<T>&) { return false; }
  static int64_t tasks(const Sweep<T>&) { return 0; }
  static int64_t pack_tasks(const Sweep<T>&) { return 0; }
  static int64_t packed_bytes(const Sweep<T>&) { return 0; }
  static int64_t scratch(const Sweep<T>&) { return 0; }
  static void pack(const Sweep<T>&, const WeightsAt<T>&, void*, int64_t) {}
  static void run(const Sweep<T>&, const T*, const WeightsAt<T>&, const void*, const T*, int64_t, T*, void*,
                  int64_t) {}
};

#if defined(__AMX_BF16__)
template <>
struct SplitSweep<float> {
  static bool pays(const Sweep<float>& s);
  static int64_t tasks(const Sweep<float>& s);
  static int64_t pack_tasks(const Sweep<float>& s);
  static int64_t packed_bytes(const Sweep<float>& s);
  static int64_t scratch(const Sweep<float>& s);
  static void pack(const Sweep<float>& s, const WeightsAt<float>& w, void* packed, int64_t task);
  static void run(const Sweep<float>& s, const float* x, const WeightsAt<float>& w, const void* packed,
                  const float* bias, int64_t relu, float* y, void* scratch, int64_t task);
};
#endif

}  // namespace cnnmath::CNNMATH_ISA
