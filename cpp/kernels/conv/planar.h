// A sweep with few output channels: they would leave most lanes of a vector empty, so pixels take the lanes
// and the channels the rows of the tile.
//
// The source is copied to scratch plane by plane, padded; the weights are packed as [o][block][k], where k
// runs over the columns of the window or over the channels, whichever are more. A tile is one stretch of a
// row; it is turned into pixels of channels on its way out.
#pragma once
#include "kernels/conv/sweep.h"

namespace cnnmath::CNNMATH_ISA {

// Whether it pays.
template <class T>
bool planar_pays(const Sweep<T>& s);

template <class T>
SweepWay<T> planar_way();

}  // namespace cnnmath::CNNMATH_ISA
