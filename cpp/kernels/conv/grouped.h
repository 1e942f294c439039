// Convolutions in groups of few channels: the outputs of all groups lie in the lanes, and lane o has a sum of its own over
// taps and the ic inputs of its group. To that end the source is copied as ic planes, block after block of pixels, one
// vector of outputs at a time:
//
//   plane[p][k][o] = x[p][o / oc * ic + k]                     ic, oc: channels of a group, in and out
//   y[p][o]        = sum over taps and k of plane[p + tap][k][o] * w[tap][k][o]
//   dw[tap][k][o]  = sum over p of plane[p + tap][k][o] * dy[p][o]
//
// No number meets one of another group. What falls on the padding counts as 0 times the other factor.
#pragma once
#include "kernels/conv/parts.h"
#include "kernels/conv/sweep.h"

namespace cnnmath::CNNMATH_ISA {

// A block of output pixels.
struct PixelBlock {
  int64_t image0, image1, t0, t1, q0, q1;
};

// How the outputs of a sweep are cut into blocks, and how the planes of one of them lie:
// [image][row][column][k][lane].
template <class T>
struct Planes {
  Axis v, u;
  int64_t n, h, w, c;
  int64_t ic, oc;                 // channels of a group, in and out
  int64_t outputs, vectors;       // of all groups
  int64_t row_step, column_step;  // of the source, from one that is copied to the next
  int64_t images, rows, columns;  // of a block, in outputs
  int64_t image_blocks, row_blocks, column_blocks;
  int64_t copy_rows, copy_columns;  // of one image of a block

  int64_t blocks() const { return image_blocks * row_blocks * column_blocks; }
  PixelBlock block(int64_t index) const;
  // About the flops of one vector of outputs over a block, the copy counted as four taps.
  int64_t block_flops() const {
    return images * rows * columns * (v.taps * u.taps + 4) * ic * 2 * Vec<T>::lanes + 1;
  }
  // Elements of the copy, in all and from place to place.
  int64_t column_size() const { return ic * Vec<T>::lanes; }
  int64_t row_size() const { return copy_columns * column_size(); }
  int64_t image_size() const { return copy_rows * row_size(); }
  int64_t size() const { return images * image_size(); }
  int64_t pixel_below() const { return v.source_step / row_step * row_size(); }
  int64_t pixel_right() const { return u.source_step / column_step * column_size(); }
  int64_t tap_below() const { return v.offset_step / row_step * row_size(); }
  int64_t tap_right() const { return u.offset_step / column_step * column_size(); }
  // The taps of a row of the kernel are `runs` runs of adjacent vectors.
  int64_t runs() const { return u.offset_step == column_step ? 1 : u.taps; }
  int64_t run() const { return u.offset_step == column_step ? u.taps * ic : ic; }

  // The planes of a vector of outputs and a block, zeros outside the map.
  void copy(const T* x, int64_t vector, const PixelBlock& block, T* out) const;
};

// Of v, u, n, h, w, c, groups, ic and oc of s.
template <class T>
Planes<T> plan_planes(const Sweep<T>& s);

// Tenths of a multiplication of vectors for a pixel, with the groups one after the other and in this way; there are outputs.
struct GroupCosts {
  int64_t apart, together;
};
template <class T>
GroupCosts group_costs(const Sweep<T>& s, int64_t copies);

// Whether this is faster than the groups one after the other; `copies` counts the vectors of a pixel that are copied beside
// the planes. Of groups, v, u, ic and oc of s.
template <class T>
bool grouped_pays(const Sweep<T>& s, int64_t copies);
template <class T>
SweepWay<T> grouped_way();

}  // namespace cnnmath::CNNMATH_ISA
