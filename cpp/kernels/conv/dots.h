// A sweep with few output channels and many input channels: the numbers under a row of the window take the lanes, each output of
// each pixel has a vector of sums of its own, and the lanes are added up at the end. The source is read in place, but for padding and
// groups.
//
// The weights are packed as [group][four outputs][block][vector of k][output], zeros behind the last k; a block is a row of the window, or
// one tap where the taps of a row do not lie side by side.
#pragma once
#include "kernels/conv/sweep.h"

namespace cnnmath::CNNMATH_ISA {

// Whether it pays.
template <class T>
bool dots_pays(const Sweep<T>& s);

template <class T>
SweepWay<T> dots_way();

}  // namespace cnnmath::CNNMATH_ISA
