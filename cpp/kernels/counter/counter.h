// increment   x[0] += 1 for each of `count` int64 counters, one after the other; the same one may stand there
// twice.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct CounterFields {
  int64_t count;
};

extern const KernelList counter_kernels;

}  // namespace cnnmath::CNNMATH_ISA
