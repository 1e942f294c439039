#include "kernels/layout/layout.h"

#include "kernels/layout/pad.h"
#include "kernels/layout/relayout.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

constexpr Kernel relayout_kernel(const char* dtype, void (*run)(const Task&)) {
  return {"relayout", dtype,
          "x y",      "rank x0 y0 n0 n1 n2 n3 n4 n5 sx0 sx1 sx2 sx3 sx4 sx5 sy0 sy1 sy2 sy3 sy4 sy5",
          one_phase,  relayout_tasks,
          no_bytes,   no_bytes,
          run};
}
constexpr Kernel pad_kernel(const char* dtype, void (*run)(const Task&)) {
  return {"pad",        dtype,
          "x value? y", "rank mode n0 n1 n2 n3 n4 n5 m0 m1 m2 m3 m4 m5 left0 left1 left2 left3 left4 left5",
          one_phase,    pad_tasks,
          no_bytes,     no_bytes,
          run};
}
constexpr Kernel pad_grad_kernel(const char* dtype, void (*run)(const Task&)) {
  return {"pad_grad", dtype,    "dy dx", "outer n m inner left mode", one_phase, pad_grad_tasks,
          no_bytes,   no_bytes, run};
}

constexpr Kernel kKernels[] = {
    relayout_kernel("f32", relayout<uint32_t>), relayout_kernel("f64", relayout<uint64_t>),
    relayout_kernel("i64", relayout<uint64_t>), relayout_kernel("u8", relayout<uint8_t>),
    pad_kernel("f32", pad<uint32_t, float>),    pad_kernel("f64", pad<uint64_t, double>),
    pad_kernel("i64", pad<uint64_t, int64_t>),  pad_kernel("u8", pad<uint8_t, uint8_t>),
    pad_grad_kernel("f32", pad_grad<float>),    pad_grad_kernel("f64", pad_grad<double>),
};

}  // namespace

extern const KernelList layout_kernels = {kKernels, static_cast<int>(sizeof kKernels / sizeof *kKernels)};

}  // namespace cnnmath::CNNMATH_ISA
