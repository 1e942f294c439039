// The kernels of the family. See pool.h.
#include "kernels/pool/pool.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

#define CNNMATH_POOL(name, type, args, tasks, scratch, run) \
  {name, type, args, CNNMATH_POOL_FIELDS, pool_phases, tasks, pool_no_bytes, scratch, run}

const Kernel kernels[] = {
    CNNMATH_POOL("max_pool2d", "f32", "x y code?", output_tasks, pool_no_bytes, max_pool2d<float>),
    CNNMATH_POOL("max_pool2d", "f64", "x y code?", output_tasks, pool_no_bytes, max_pool2d<double>),
    CNNMATH_POOL("max_pool2d_backward", "f32", "dy code dx", input_tasks, backward_scratch,
                 max_pool2d_backward<float>),
    CNNMATH_POOL("max_pool2d_backward", "f64", "dy code dx", input_tasks, backward_scratch,
                 max_pool2d_backward<double>),
    CNNMATH_POOL("max_pool2d_indices", "", "code index", output_tasks, pool_no_bytes, max_pool2d_indices),
    CNNMATH_POOL("avg_pool2d", "f32", "x y", output_tasks, pool_no_bytes, avg_pool2d<float>),
    CNNMATH_POOL("avg_pool2d", "f64", "x y", output_tasks, pool_no_bytes, avg_pool2d<double>),
    CNNMATH_POOL("avg_pool2d_backward", "f32", "dy dx", input_tasks, backward_scratch,
                 avg_pool2d_backward<float>),
    CNNMATH_POOL("avg_pool2d_backward", "f64", "dy dx", input_tasks, backward_scratch,
                 avg_pool2d_backward<double>),
};

}  // namespace

extern const KernelList pool_kernels;
const KernelList pool_kernels = {kernels, sizeof(kernels) / sizeof(kernels[0])};

}  // namespace cnnmath::CNNMATH_ISA
