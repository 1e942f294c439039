#include "kernels/gemm/gemm.h"

#include "core/kernel.h"
#include "kernels/gemm/parts.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

#define KERNEL(name, T, dtype, args, fields, packing) \
  {                                                   \
      #name,                                          \
      dtype,                                          \
      args,                                           \
      fields,                                         \
      name::phases<T>,                                \
      name::tasks<T>,                                 \
      name::workspace<T>,                             \
      name::scratch<T>,                               \
      name::run<T>,                                   \
      packing}
#define MATMUL(T, dtype) \
  KERNEL(matmul, T, dtype, "a b bias? c", "m n k ta tb accumulate relu lasting", matmul::packing<T>)
#define COLUMN_SUMS(T, dtype) KERNEL(column_sums, T, dtype, "x y", "rows columns", nullptr)

constexpr Kernel kernels[] = {MATMUL(float, "f32"), MATMUL(double, "f64"), COLUMN_SUMS(float, "f32"),
                              COLUMN_SUMS(double, "f64")};

}  // namespace

extern const KernelList gemm_kernels;
const KernelList gemm_kernels = {kernels, sizeof(kernels) / sizeof(kernels[0])};

}  // namespace cnnmath::CNNMATH_ISA
