// copy_bytes   y[i] = x[i] for nbytes bytes of any type; x and y do not overlap.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct CopyFields {
  int64_t nbytes;
};

extern const KernelList copy_kernels;

}  // namespace cnnmath::CNNMATH_ISA
