// Augmentation: a batch of images is gathered from many, each cropped at an offset of its own and perhaps mirrored.
//
//   y[i, r, s, k] = f_k(padded x[rows[i]][top_i + r, left_i + s, k]),   s -> w - 1 - s where image i is mirrored
//
// with f the identity, or a table of what each byte becomes (scale, normalisation).
//
// The draws of image i depend on the key (seed, epoch), numbers[i] and the number of the transform alone:
// W = Philox4x32-10 of the counter {numbers[i], numbers[i] >> 32 ^ transform << 16 ^ 2^31, epoch, epoch >> 32} with
// the words of the seed as key; 2^31 keeps these streams apart from those of dropout. Then
//
//   top_i = W0 (H + 1 - h) >> 32,  left_i = W1 (W + 1 - w) >> 32,  mirrored if W0 < p 2^32
//
// where H x W is the size with the padding, and the W of mirroring is that of another transform number.
//
//   augment        f32, f64, u8  args key p x rows numbers fill y:  x, fill and y of the same dtype
//   augment_table  f32, f64, u8  args key p x rows numbers fill table y: x and fill are bytes; table [c][256] of y's dtype
//
// Layout    x (any number of images, ih, iw, c) and y (n, h, w, c) are dense; key is {seed, epoch}, p a double;
//           rows, numbers (n,) are int64, each row less than the images of x; fill (c,) is the value of the padding.
// Fields    n; ih iw c, an image of x; h w, one of y; top bottom left right, the padding; mode of the padding
//           (0 constant, 1 edge, 2 reflect, 3 symmetric, as numpy.pad has them); crop and mirror, the numbers of
//           the transforms.
#pragma once
#include "core/kernel.h"

namespace cnnmath::CNNMATH_ISA {

struct AugmentShape {
  int64_t n, ih, iw, c, h, w, top, bottom, left, right, mode, crop, mirror;
};

}  // namespace cnnmath::CNNMATH_ISA
