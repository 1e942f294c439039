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
int64_t planar_tasks(const Sweep<T>& s);
template <class T>
int64_t planar_packed_size(const Sweep<T>& s);  // elements
template <class T>
int64_t planar_scratch(const Sweep<T>& s);

// Weight of tap (i, j), source channel k and output o: w[tap * tap_step + k * k_step + o * o_step], tap
// counted in w.
template <class T>
void planar_pack(const Sweep<T>& s, const T* w, int64_t kernel_width, int64_t tap_step, int64_t k_step,
                 int64_t o_step, T* packed);

template <class T>
void run_planar(const Sweep<T>& s, const T* x, const T* packed, const T* bias, int64_t relu, T* y,
                void* scratch, int64_t task);

}  // namespace cnnmath::CNNMATH_ISA
