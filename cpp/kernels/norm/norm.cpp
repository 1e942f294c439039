// The kernels of the family. See norm.h.
#include "kernels/norm/norm.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

// Both shapes begin with rows and c.
const NormShape& shape(const int64_t* p) { return *reinterpret_cast<const NormShape*>(p); }
int64_t no_bytes(const int64_t*) { return 0; }

int one_phase(const int64_t*) { return 1; }
int64_t map_tasks(const int64_t* p, int) { return map_chunks(shape(p).rows, shape(p).c).count; }

int three_phases(const int64_t* p) { return norm_small(shape(p).rows, shape(p).c) ? 1 : 3; }
int64_t three_tasks(const int64_t* p, int phase) {
  const NormShape& s = shape(p);
  if (norm_small(s.rows, s.c)) return 1;
  if (phase == 0) return sum_chunks(s.rows, s.c).count;
  return phase == 1 ? groups(s.c) : map_chunks(s.rows, s.c).count;
}

template <class T, int Coefficients>
int64_t workspace(const int64_t* p) {
  const NormShape& s = shape(p);
  return (Coefficients + 2 * sum_chunks(s.rows, s.c).count) * s.c * static_cast<int64_t>(sizeof(T));
}
template <class T>
int64_t eval_scratch(const int64_t* p) {
  return 3 * shape(p).c * static_cast<int64_t>(sizeof(T));
}

constexpr const char* kTraining =
    "x weight? bias? running_mean? running_var? momentum? eps residual? moment_mean? m2? y? mean invstd "
    "affine";
constexpr const char* kEval = "x mean var weight? bias? eps residual? y";
constexpr const char* kBackward = "dy x? weight? bias? mean invstd? var? eps? y? dx? dweight? dbias? dz?";

template <class T>
constexpr Kernel training_kernel(const char* dtype) {
  return {"batch_norm", dtype,           kTraining, CNNMATH_NORM_FIELDS, three_phases,
          three_tasks,  workspace<T, 0>, no_bytes,  batch_norm<T>};
}
template <class T>
constexpr Kernel eval_kernel(const char* dtype) {
  return {"batch_norm_eval", dtype,    kEval,           CNNMATH_NORM_FIELDS, one_phase,
          map_tasks,         no_bytes, eval_scratch<T>, batch_norm_eval<T>};
}
template <class T>
constexpr Kernel backward_kernel(const char* dtype) {
  return {"batch_norm_backward", dtype,           kBackward, CNNMATH_NORM_BACKWARD_FIELDS, three_phases,
          three_tasks,           workspace<T, 4>, no_bytes,  batch_norm_backward<T>};
}

const Kernel kernels[] = {
    training_kernel<float>("f32"), training_kernel<double>("f64"), eval_kernel<float>("f32"),
    eval_kernel<double>("f64"),    backward_kernel<float>("f32"),  backward_kernel<double>("f64"),
};

}  // namespace

extern const KernelList norm_kernels;
const KernelList norm_kernels = {kernels, sizeof(kernels) / sizeof(kernels[0])};

}  // namespace cnnmath::CNNMATH_ISA
