#include "kernels/reduce/reduce.h"

#include "kernels/reduce/penalty.h"
#include "kernels/reduce/sum.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

template <class T>
constexpr Kernel sum_kernel(const char* dtype) {
  return {"sum",
          dtype,
          "x y",
          "kept reduced n0 n1 n2 n3 n4 n5 s0 s1 s2 s3 s4 s5 divisor",
          sum_phases,
          sum_tasks,
          sum_workspace<T>,
          no_bytes,
          sum<T>};
}
template <class T>
constexpr Kernel penalty_kernel(const char* name, const char* dtype, void (*run)(const Task&)) {
  return {name,     dtype, "x strength? y", "n", penalty_phases, penalty_tasks, penalty_workspace<T>,
          no_bytes, run};
}
constexpr Kernel penalty_grad_kernel(const char* name, const char* dtype, void (*run)(const Task&)) {
  return {name, dtype, "dy x strength? dx", "n", one_phase, penalty_grad_tasks, no_bytes, no_bytes, run};
}

constexpr Kernel kKernels[] = {
    sum_kernel<float>("f32"),
    sum_kernel<double>("f64"),
    penalty_kernel<float>("sum_squares", "f32", penalty<float, Square<float>>),
    penalty_kernel<double>("sum_squares", "f64", penalty<double, Square<double>>),
    penalty_kernel<float>("sum_abs", "f32", penalty<float, Absolute<float>>),
    penalty_kernel<double>("sum_abs", "f64", penalty<double, Absolute<double>>),
    penalty_grad_kernel("sum_squares_grad", "f32", penalty_grad<float, Square<float>>),
    penalty_grad_kernel("sum_squares_grad", "f64", penalty_grad<double, Square<double>>),
    penalty_grad_kernel("sum_abs_grad", "f32", penalty_grad<float, Absolute<float>>),
    penalty_grad_kernel("sum_abs_grad", "f64", penalty_grad<double, Absolute<double>>),
};

}  // namespace

extern const KernelList reduce_kernels = {kKernels, static_cast<int>(sizeof kKernels / sizeof *kKernels)};

}  // namespace cnnmath::CNNMATH_ISA
