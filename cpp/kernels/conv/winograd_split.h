// A Winograd sweep whose products run on a matrix unit for bfloat16 (kernels/tile/split.h): the 36 numbers are split into three
// parts as they are written, those of the weights ahead or, for one block of tiles, as they are needed.
#pragma once
#include "kernels/conv/winograd.h"

namespace cnnmath::CNNMATH_ISA {

// Whether it is faster so; never where there is no such unit.
bool winograd_splits(const Sweep<float>& s);
WinogradWay winograd_split_way();

}  // namespace cnnmath::CNNMATH_ISA
