// A float32 sweep on a matrix unit for bfloat16 (kernels/tile/split.h).
//
// A task splits its part of the source into three planes in scratch, padded, and multiplies in place: a tile of A is
// 16 pixels at equal distances, one behind the other along a row or, where rows are short, along the padded copy (what falls
// on the padding is thrown away). The weights are split ahead, for all tasks.
#pragma once
#include "kernels/conv/sweep.h"

namespace cnnmath::CNNMATH_ISA {

// Whether it pays; never where there is no such unit, or in float64.
template <class T>
bool split_pays(const Sweep<T>& s);
template <class T>
SweepWay<T> split_way();

}  // namespace cnnmath::CNNMATH_ISA
