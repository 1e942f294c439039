// A sweep with few output channels: they would leave most lanes of a vector empty, so pixels take the lanes
// and the channels the rows of the tile.
//
// The source is copied to scratch plane by plane, padded; the weights are packed as [o][block][k], where k
// runs over the columns of the window or over the channels, whichever are more. A tile is one stretch of a
// row; it is turned into pixels of channels on its way out. So it is with groups of few channels, where there are few in all.
#pragma once
#include "kernels/conv/sweep.h"

namespace cnnmath::CNNMATH_ISA {

// Whether it pays.
template <class T>
bool planar_pays(const Sweep<T>& s);

template <class T>
SweepWay<T> planar_way();

// A sweep of all taps with at most 16 output channels, and what a max-pool of 2x2 windows apart makes of it at once: y and code
// (as in pool.h; may be null) are [n][v.outs / 2][u.outs / 2][oc]. Both outs are even.
template <class T>
struct PlanarPool {
  int64_t (*pack_tasks)(const Sweep<T>& s);
  int64_t (*packed_bytes)(const Sweep<T>& s);
  void (*pack)(const Sweep<T>& s, const WeightsAt<T>& w, void* packed, int64_t task);
  int64_t (*tasks)(const Sweep<T>& s);
  int64_t (*scratch)(const Sweep<T>& s);
  void (*run)(const Sweep<T>& s, const T* x, const void* packed, const T* bias, int64_t relu, T* y,
              uint8_t* code, void* scratch, int64_t task);
};
template <class T>
PlanarPool<T> planar_pool();

}  // namespace cnnmath::CNNMATH_ISA
