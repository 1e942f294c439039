// What the machine can do at best: the yardsticks that benchmarks are held against. No computation of ours
// uses them.
//
//   fma_peak   y[c] = twelve vectors of sums, each after `rounds` times s = s a + b in registers, added up;
//              c a chunk. args "x y": x holds two numbers a, b (|a| < 1 keeps every sum finite); y (chunks + 1) takes
//              the results, and behind them the multiply-adds of one round (the sums times the lanes)
//   triad      y[i] = a[i] + s b[i], the stream that measures memory: 3 numbers moved for each i
//              args "s a b y": s is one number; a, b, y do not overlap
//
// A chunk of fma_peak is one task, so `chunks` = threads gives every thread one. Twelve independent sums
// cover the latency of two units (4 cycles each, 8 in flight) and leave room for a and b in 16 registers.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct FmaPeakFields {
  int64_t chunks, rounds;
};
struct TriadFields {
  int64_t n, chunks;
};

extern const KernelList peak_kernels;

}  // namespace cnnmath::CNNMATH_ISA
