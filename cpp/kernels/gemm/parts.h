// The functions of this family's kernels. (gemm.cpp makes the table from their addresses: it must be a
// constant, for code that filled it at load time would be code for one instruction set.)
#pragma once
#include "core/kernel.h"
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

namespace matmul {
template <class T>
int phases(const int64_t* p);
template <class T>
int64_t tasks(const int64_t* p, int phase);
template <class T>
int64_t workspace(const int64_t* p);
template <class T>
int64_t scratch(const int64_t* p);
template <class T>
void run(const Task& t);
template <class T>
int packing(const int64_t* p);
}  // namespace matmul

namespace column_sums {
template <class T>
int phases(const int64_t* p);
template <class T>
int64_t tasks(const int64_t* p, int phase);
template <class T>
int64_t workspace(const int64_t* p);
template <class T>
int64_t scratch(const int64_t* p);
template <class T>
void run(const Task& t);
}  // namespace column_sums

}  // namespace cnnmath::CNNMATH_ISA
