// The float32 product on a matrix unit for bfloat16 (kernels/tile/split.h): the functions of a kernel, for the shapes
// that it takes.
#pragma once
#include "core/kernel.h"
#include "kernels/gemm/gemm.h"
#include "kernels/tile/split.h"

#if defined(__AMX_BF16__)
namespace cnnmath::CNNMATH_ISA::matmul_split {

bool takes(const MatmulShape& s);
int phases(const MatmulShape& s);
int64_t tasks(const MatmulShape& s, int phase);
int64_t workspace(const MatmulShape& s);
int64_t scratch(const MatmulShape& s);
void run(const MatmulShape& s, const Task& t);
int packing(const MatmulShape& s);

}  // namespace cnnmath::CNNMATH_ISA::matmul_split
#endif
