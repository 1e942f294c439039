#include "kernels/conv/conv.h"

#include "core/kernel.h"
#include "kernels/conv/parts.h"

namespace cnnmath::CNNMATH_ISA {

template <class T>
ConvPart grad_weight_part_of(const ConvShape& s) {
  if (depthwise(s)) return depthwise_grad_weight_part<T>();
  if (block_grad_weight_pays<T>(s)) return block_grad_weight_part<T>();
  if (grouped_grad_weight_pays<T>(s)) return grouped_grad_weight_part<T>();
  if (winograd_grad_weight_pays<T>(s)) return winograd_grad_weight_part<T>();
  if (split_grad_weight_pays<T>(s)) return split_grad_weight_part<T>();
  return few_grad_weight_pays<T>(s) ? few_grad_weight_part<T>() : grad_weight_part<T>();
}
template ConvPart grad_weight_part_of<float>(const ConvShape& s);
template ConvPart grad_weight_part_of<double>(const ConvShape& s);

namespace {

template <class T>
ConvPart forward(const ConvShape& s) {
  return depthwise(s) ? depthwise_forward_part<T>() : forward_part<T>();
}
template <class T>
ConvPart grad_input(const ConvShape& s) {
  if (depthwise(s)) return depthwise_grad_input_part<T>();
  return scatter_pays<T>(s) ? scatter_part<T>() : grad_input_part<T>();
}

// A kernel whose part depends on the shape.
template <ConvPart (*part)(const ConvShape& s)>
struct Choice {
  static ConvPart of(const int64_t* p) { return part(conv_shape(p)); }
  static int phases(const int64_t* p) { return of(p).phases(p); }
  static int64_t tasks(const int64_t* p, int phase) { return of(p).tasks(p, phase); }
  static int64_t workspace(const int64_t* p) { return of(p).workspace(p); }
  static int64_t scratch(const int64_t* p) { return of(p).scratch(p); }
  static void run(const Task& t) { of(t.p).run(t); }
  // All phases but the last pack the weights, where there are weights.
  static int packing(const int64_t* p) { return phases(p) - 1; }
  static constexpr Kernel kernel(const char* name, const char* dtype, const char* args, bool weights,
                                 bool (*takes)(const int64_t* p) = nullptr) {
    return {name,      dtype,   args, CNNMATH_CONV_FIELDS,         phases, tasks,
            workspace, scratch, run,  weights ? packing : nullptr, takes};
  }
};

template <class T>
ConvPart max_pool(const ConvShape& s) {
  return s.oc <= kFewOutputs ? max_pool_part<T>() : direct_pool_part<T>();
}
template <class T>
bool max_pool_takes(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  return s.groups == 1 && (s.oc <= kFewOutputs || direct_pool_pays<T>(s));
}
template <class T>
ConvPart max_pool_grad_weight(const ConvShape&) {
  return max_pool_grad_weight_part<T>();
}

// By Winograd, with what stands before and behind.
ConvPart fused_forward(const ConvShape&) { return winograd_forward_part(); }
ConvPart fused_max_pool(const ConvShape&) { return winograd_max_pool_part(); }
ConvPart fused_grad_input(const ConvShape&) { return winograd_grad_input_part(); }
ConvPart fused_grad_weight(const ConvShape&) { return winograd_fused_grad_weight_part(); }
bool takes_forward(const int64_t* p) { return winograd_forward_takes(conv_shape(p)); }
bool takes_max_pool(const int64_t* p) { return winograd_max_pool_takes(conv_shape(p)); }
bool takes_grad_input(const int64_t* p) { return winograd_grad_input_takes(conv_shape(p)); }
bool takes_grad_weight(const int64_t* p) {
  return grad_weight_part_of<float>(conv_shape(p)).run == winograd_grad_weight_part<float>().run;
}

#define KERNELS(T, dtype)                                                                                  \
  Choice<forward<T>>::kernel("conv2d", dtype, "x w bias? y", true),                                        \
      Choice<grad_input<T>>::kernel("conv2d_grad_input", dtype, "dy w dx", true),                          \
      Choice<grad_weight_part_of<T>>::kernel("conv2d_grad_weight", dtype, "x dy dw", false),               \
      Choice<max_pool<T>>::kernel("conv2d_max_pool", dtype, "x w bias? y code?", true, max_pool_takes<T>), \
      Choice<max_pool_grad_weight<T>>::kernel("conv2d_max_pool_grad_weight", dtype, "x dy code dw", false)

constexpr Kernel kernels[] = {
    KERNELS(float, "f32"),
    KERNELS(double, "f64"),
    Choice<fused_forward>::kernel("conv2d_winograd", "f32", "x norm? w bias? y mean? m2?", false,
                                  takes_forward),
    Choice<fused_max_pool>::kernel("conv2d_winograd_max_pool", "f32", "x norm? w bias? y code?", true,
                                   takes_max_pool),
    Choice<fused_grad_input>::kernel("conv2d_winograd_grad_input", "f32", "dy code? w y? dx sum?", false,
                                     takes_grad_input),
    Choice<fused_grad_weight>::kernel("conv2d_winograd_grad_weight", "f32", "x norm? dy code? dw", false,
                                      takes_grad_weight)};

}  // namespace

extern const KernelList conv_kernels;
const KernelList conv_kernels = {kernels, sizeof(kernels) / sizeof(kernels[0])};

}  // namespace cnnmath::CNNMATH_ISA
