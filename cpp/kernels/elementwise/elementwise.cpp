#include "kernels/elementwise/elementwise.h"

#include "kernels/elementwise/binary.h"
#include "kernels/elementwise/map.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

constexpr char kBinaryFields[] = "rank n0 n1 n2 n3 n4 n5 a0 a1 a2 a3 a4 a5 b0 b1 b2 b3 b4 b5";

constexpr Kernel map_kernel(const char* name, const char* dtype, const char* args, void (*run)(const Task&)) {
  return {name, dtype, args, "n", one_phase, map_tasks, no_bytes, no_bytes, run};
}
constexpr Kernel scaled_kernel(const char* name, const char* dtype, const char* args,
                               void (*run)(const Task&)) {
  return {name, dtype, args, "n value", one_phase, map_tasks, no_bytes, no_bytes, run};
}
constexpr Kernel binary_kernel(const char* name, const char* dtype, const char* args,
                               void (*run)(const Task&)) {
  return {name, dtype, args, kBinaryFields, one_phase, binary_tasks, no_bytes, binary_scratch, run};
}

#define CNNMATH_FOR_TYPE(T, dtype)                                                               \
  map_kernel("relu", dtype, "x y", map1<T, op::Relu<T>>),                                        \
      map_kernel("relu_grad", dtype, "dy y dx", map2<T, op::ReluGrad<T>>),                       \
      map_kernel("leaky_relu", dtype, "x slope y", map1_cell<T, op::LeakyRelu<T>>),              \
      map_kernel("leaky_relu_grad", dtype, "dy x slope dx", map2_cell<T, op::LeakyReluGrad<T>>), \
      map_kernel("sigmoid", dtype, "x y", map1<T, op::Sigmoid<T>>),                              \
      map_kernel("sigmoid_grad", dtype, "dy y dx", map2<T, op::SigmoidGrad<T>>),                 \
      map_kernel("tanh", dtype, "x y", map1<T, op::Tanh<T>>),                                    \
      map_kernel("tanh_grad", dtype, "dy y dx", map2<T, op::TanhGrad<T>>),                       \
      map_kernel("neg", dtype, "x y", map1<T, op::Neg<T>>),                                      \
      map_kernel("abs", dtype, "x y", map1<T, op::Abs<T>>),                                      \
      map_kernel("abs_grad", dtype, "dy x dx", map2<T, op::AbsGrad<T>>),                         \
      map_kernel("exp", dtype, "x y", map1<T, op::Exp<T>>),                                      \
      map_kernel("log", dtype, "x y", map1<T, op::Log<T>>),                                      \
      map_kernel("sqrt", dtype, "x y", map1<T, op::Sqrt<T>>),                                    \
      map_kernel("copy", dtype, "x y", map1<T, op::Copy<T>>),                                    \
      map_kernel("accumulate", dtype, "x y", accumulate<T>),                                     \
      map_kernel("add_scalar", dtype, "x c y", map1_cell<T, op::AddScalar<T>>),                  \
      map_kernel("scalar_sub", dtype, "x c y", map1_cell<T, op::ScalarSub<T>>),                  \
      map_kernel("div_scalar", dtype, "x c y", map1_cell<T, op::DivScalar<T>>),                  \
      map_kernel("scalar_div", dtype, "x c y", map1_cell<T, op::ScalarDiv<T>>),                  \
      scaled_kernel("scale", dtype, "x factor? y", scale<T>),                                    \
      scaled_kernel("fill", dtype, "value? y", fill<T>),                                         \
      binary_kernel("add", dtype, "a b y", binary<T, op::Add<T>>),                               \
      binary_kernel("sub", dtype, "a b y", binary<T, op::Sub<T>>),                               \
      binary_kernel("mul", dtype, "a b y", binary<T, op::Mul<T>>),                               \
      binary_kernel("div", dtype, "a b y", binary<T, op::Div<T>>),                               \
      binary_kernel("add_relu", dtype, "a b y", binary<T, op::AddRelu<T>>),                      \
      binary_kernel("add_scaled", dtype, "a b alpha y", binary_cell<T, op::AddScaled<T>>),       \
      map_kernel("to_f32", dtype, "x y", cast<T, float>),                                        \
      map_kernel("to_f64", dtype, "x y", cast<T, double>)

constexpr Kernel kKernels[] = {
    CNNMATH_FOR_TYPE(float, "f32"),
    CNNMATH_FOR_TYPE(double, "f64"),
    map_kernel("to_f32", "i64", "x y", cast<int64_t, float>),
    map_kernel("to_f64", "i64", "x y", cast<int64_t, double>),
    map_kernel("to_f32", "u8", "x y", cast<uint8_t, float>),
    map_kernel("to_f64", "u8", "x y", cast<uint8_t, double>),
};

}  // namespace

extern const KernelList elementwise_kernels = {kKernels,
                                               static_cast<int>(sizeof kKernels / sizeof *kKernels)};

}  // namespace cnnmath::CNNMATH_ISA
