// The sweep under conv2d and conv2d_grad_input: every output pixel is a sum over taps, the taps being at
// fixed distances in the source, the same for all pixels. A gradient with stride s is s*s sweeps, each with
// the taps that meet one residue class of pixels.
//
// Per axis, with t counting output positions of the sweep:
//   output position   out_begin + t * out_step
//   source position   t * source_step + offset + i * offset_step     for tap i of the sweep, 0 <= i < taps
//   weights           tap_begin + i * tap_step                       index in w
#pragma once
#include "kernels/conv/conv.h"
#include "kernels/conv/reading.h"
#include "kernels/tile/pack.h"
#include "kernels/tile/tile.h"

namespace cnnmath::CNNMATH_ISA {

struct Axis {
  int64_t outs, out_begin, out_step;
  int64_t taps, tap_begin, tap_step;
  int64_t source_step, offset, offset_step;
  // first and one past the last source position that positions [from, to) touch
  int64_t source_begin(int64_t from) const { return from * source_step + offset; }
  int64_t source_end(int64_t to) const {
    return (to - 1) * source_step + offset + (taps - 1) * offset_step + 1;
  }
};

// Output positions [from, to) of an axis that find the same taps, [tap0, tap1), inside the map.
struct Reach {
  int64_t from, to, tap0, tap1;
};

Axis forward_axis(int64_t outs, int64_t taps, int64_t stride, int64_t dilation, int64_t pad);

// The positions r, r + stride, ... of x. Position r + stride * t met, through tap i, position
// t + (r + pad - i * dilation) / stride of y: of all taps those for which the division leaves no rest. Taken
// from the last to the first, they climb through y.
Axis grad_axis(int64_t size, int64_t taps, int64_t stride, int64_t dilation, int64_t pad, int64_t r);

// A sweep, as far as shapes go.
template <class T>
struct Sweep {
  Axis v, u;               // vertical, horizontal
  int64_t n, h, w, c;      // source
  int64_t groups, ic, oc;  // channels in and out of one group
  int64_t out_h, out_w;    // destination; it has groups * oc channels
  bool direct;             // sums are taken as they stand
  bool lasting;            // packed weights serve many runs
  // What follows from these (plan_sweep).
  Panels<T> panels;
  int64_t depth;         // length of the whole sum
  bool copies;           // the source is copied to scratch, padded
  int64_t images, rows;  // of a task
  // In direct_way taps outside the map are skipped; else they meet the zeros of the copy.
  bool skips_rows, skips_columns;
  double done;  // the part of all pairs of an output and a tap that is left then
  int64_t task_panels;
  int64_t image_blocks, row_blocks, panel_blocks;
  int64_t source_rows, source_columns;  // of one image in scratch

  int64_t tasks() const { return groups * panel_blocks * image_blocks * row_blocks; }
  int64_t pixels() const { return images * rows * u.outs; }
  int64_t packed_size() const { return groups * depth * panels.padded(); }  // elements of packed weights
};

// Where the weight of tap (i, j), source channel k and output o of a group lies: tap(s, i, j) + k * k_step + o * o_step + group *
// group_step.
template <class T>
struct WeightsAt {
  const T* base;
  int64_t kernel_width;
  int64_t tap_step, k_step, o_step, group_step;
  const T* tap(const Sweep<T>& s, int64_t i, int64_t j) const {
    return base +
           ((s.v.tap_begin + i * s.v.tap_step) * kernel_width + s.u.tap_begin + j * s.u.tap_step) * tap_step;
  }
};

// conv2d as a sweep.
template <class T>
Sweep<T> forward_sweep(const ConvShape& s);
// conv2d before a max-pool of 2 x 2 windows apart: what no window holds is not computed.
template <class T>
Sweep<T> pool_sweep(const ConvShape& s);
// conv2d_grad_input, for one residue of the pixels (below stride * stride).
template <class T>
Sweep<T> grad_sweep(const ConvShape& s, int64_t residue);
// A sweep's way over so many images, as one task; what it skips stays the same.
template <class T>
Sweep<T> whole_images(Sweep<T> s, int64_t images);
template <class T>
WeightsAt<T> forward_weights(const ConvShape& s, const Sweep<T>& f, const T* w) {
  return {w, s.kw, f.ic * s.oc, s.oc, 1, f.oc};
}
template <class T>
WeightsAt<T> grad_weights(const ConvShape& s, const Sweep<T>& g, const T* w) {
  return {w, s.kw, g.oc * s.oc, 1, s.oc, g.ic};
}

// Outputs [o, o + n), at most a vector, of position (t, q) of one image, term by term: for what faster ways cannot do. x and weights
// begin at the channels of their group.
Vec<float> sweep_numbers(const Sweep<float>& s, const WeightsAt<float>& w, const float* x, int64_t image,
                         int64_t t, int64_t q, int64_t o, int64_t n, const Reading& reading = {});

// One way to do a sweep. Weights are packed first, by tasks of their own, for all tasks of the sweep.
template <class T>
struct SweepWay {
  int64_t (*pack_tasks)(const Sweep<T>& s);
  int64_t (*packed_bytes)(const Sweep<T>& s);
  void (*pack)(const Sweep<T>& s, const WeightsAt<T>& w, void* packed, int64_t task);
  int64_t (*tasks)(const Sweep<T>& s);
  int64_t (*scratch)(const Sweep<T>& s);  // bytes of a task
  void (*run)(const Sweep<T>& s, const T* x, const WeightsAt<T>& w, const void* packed, const T* bias,
              int64_t relu, T* y, void* scratch, int64_t task);
};

// The pixels of a task of the plain cut (Sweep::tasks), in its scratch. With `copies` the source is copied there, padded.
constexpr int64_t kSparePixels = 16;  // repeated pointers behind the last ones
template <class T>
struct Pixels {
  int64_t group, count;
  int64_t images, row0, row1;
  const T** source;              // of each pixel, its first tap
  T** out;                       // of each pixel, its first output
  int64_t row_step, pixel_step;  // of the source
  int64_t *a_offset, *b_offset;  // room for a number for each tap
};
template <class T>
int64_t pixels_scratch(const Sweep<T>& s);
// By image, row and column; or, `apart`, in the order of each_reach and then so.
template <class T>
Pixels<T> find_pixels(const Sweep<T>& s, const T* x, T* y, void* scratch, int64_t task, bool apart = false);

// The plain way, which takes every sweep: register tiles over pixels and outputs. Without packed weights it reads w in place,
// which takes k_step >= the outputs of a panel, o_step = 1, and whole vectors of outputs.
template <class T>
SweepWay<T> direct_way();

}  // namespace cnnmath::CNNMATH_ISA
