#include "kernels/loss/loss.h"

#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/mse.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

template <class T>
constexpr Kernel cross_entropy_kernel(const char* dtype) {
  using C = CrossEntropy<T>;
  return {"cross_entropy",
          dtype,
          "x target weight? smoothing? loss dx? error?",
          "outer classes inner probabilities reduction ignore_index",
          C::phases,
          C::tasks,
          C::workspace,
          no_bytes,
          C::run};
}
template <class T>
constexpr Kernel mse_kernel(const char* dtype) {
  return {"mse_loss", dtype, "x target loss dx?", "n reduction", mse_phases, mse_tasks, mse_workspace<T>,
          no_bytes,   mse<T>};
}

constexpr Kernel kKernels[] = {
    cross_entropy_kernel<float>("f32"),
    cross_entropy_kernel<double>("f64"),
    mse_kernel<float>("f32"),
    mse_kernel<double>("f64"),
};

}  // namespace

extern const KernelList loss_kernels = {kKernels, static_cast<int>(sizeof kKernels / sizeof *kKernels)};

}  // namespace cnnmath::CNNMATH_ISA
