#include "kernels/conv/conv.h"

#include "core/kernel.h"
#include "kernels/conv/parts.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

bool never(const ConvShape&) { return false; }

// A kernel from its general part, the one for depthwise convolutions, and one for what a matrix unit takes.
template <ConvPart (*general)(), ConvPart (*by_channel)(), bool (*takes)(const ConvShape&) = never,
          ConvPart (*on_unit)() = general>
struct Choice {
  static ConvPart of(const int64_t* p) {
    const ConvShape& s = conv_shape(p);
    return depthwise(s) ? by_channel() : takes(s) ? on_unit() : general();
  }
  static int phases(const int64_t* p) { return of(p).phases(p); }
  static int64_t tasks(const int64_t* p, int phase) { return of(p).tasks(p, phase); }
  static int64_t workspace(const int64_t* p) { return of(p).workspace(p); }
  static int64_t scratch(const int64_t* p) { return of(p).scratch(p); }
  static void run(const Task& t) { of(t.p).run(t); }
  static constexpr Kernel kernel(const char* name, const char* dtype, const char* args) {
    return {name, dtype, args, CNNMATH_CONV_FIELDS, phases, tasks, workspace, scratch, run};
  }
};

#define KERNELS(T, dtype)                                                                          \
  Choice<forward_part<T>, depthwise_forward_part<T>>::kernel("conv2d", dtype, "x w bias? y"),      \
      Choice<grad_input_part<T>, depthwise_grad_input_part<T>>::kernel("conv2d_grad_input", dtype, \
                                                                       "dy w dx"),                 \
      Choice<grad_weight_part<T>, depthwise_grad_weight_part<T>, SplitGradWeight<T>::takes,        \
             SplitGradWeight<T>::part>::kernel("conv2d_grad_weight", dtype, "x dy dw")

constexpr Kernel kernels[] = {KERNELS(float, "f32"), KERNELS(double, "f64")};

}  // namespace

extern const KernelList conv_kernels;
const KernelList conv_kernels = {kernels, sizeof(kernels) / sizeof(kernels[0])};

}  // namespace cnnmath::CNNMATH_ISA
