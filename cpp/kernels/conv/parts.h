// What the sources of this family share.
#pragma once
#include "core/kernel.h"
#include "kernels/conv/conv.h"
#include "kernels/conv/reading.h"
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

static inline const ConvShape& conv_shape(const int64_t* p) { return *reinterpret_cast<const ConvShape*>(p); }
static inline int64_t conv_flops(const ConvShape& s) {
  return s.groups ? 2 * s.n * s.oh * s.ow * s.oc * s.kh * s.kw * (s.c / s.groups) : 0;
}
// Less than this is one task: two threads would spend their time meeting.
constexpr int64_t kSmallFlops = int64_t{1} << 20;

static inline bool depthwise(const ConvShape& s) {
  return s.groups > 1 && s.groups == s.c && s.groups == s.oc;
}

// Whether the gradient of the weights takes the taps of a row together, from a padded copy of x. Then what falls on the
// padding counts as 0 times dy (NaN where dy is infinite), else not at all.
static inline bool merges_taps(const ConvShape& s) { return s.kw > 1 && s.dw == 1 && s.c / s.groups <= 40; }

// One kind of work of a kernel, in phases; the same functions as in Kernel.
struct ConvPart {
  int (*phases)(const int64_t* p);
  int64_t (*tasks)(const int64_t* p, int phase);
  int64_t (*workspace)(const int64_t* p);
  int64_t (*scratch)(const int64_t* p);
  void (*run)(const Task& t);
};

// Numbers (i, j, c, [o, o + outs)) of dw without groups, at most a vector, term by term: for what faster ways cannot do.
Vec<float> grad_weight_numbers(const ConvShape& s, const float* x, const float* dy, int64_t i, int64_t j,
                               int64_t c, int64_t o, int64_t outs, const Reading& reading_x = {},
                               const Reading& reading_dy = {});

// The gradient of the input window by window (scatter.cpp), and whether it pays.
template <class T>
bool scatter_pays(const ConvShape& s);
template <class T>
ConvPart scatter_part();

// The gradient of the weights for few outputs (few_grad_weight.cpp), and whether it pays.
template <class T>
bool few_grad_weight_pays(const ConvShape& s);
template <class T>
ConvPart few_grad_weight_part();

// The gradient of the weights by Winograd (winograd_grad_weight.cpp) and on a matrix unit (split_grad_weight.cpp), and whether
// they pay: never in float64, or where there is no such unit.
template <class T>
bool winograd_grad_weight_pays(const ConvShape& s);
template <class T>
ConvPart winograd_grad_weight_part();
// The same, of what is made of x and dy as they are read.
ConvPart winograd_fused_grad_weight_part();
template <class T>
bool split_grad_weight_pays(const ConvShape& s);
template <class T>
ConvPart split_grad_weight_part();

// In groups, of few channels in all (block_grad_weight.cpp).
template <class T>
bool block_grad_weight_pays(const ConvShape& s);
template <class T>
ConvPart block_grad_weight_part();

// In groups of few channels (grouped_grad_weight.cpp).
template <class T>
bool grouped_grad_weight_pays(const ConvShape& s);
template <class T>
ConvPart grouped_grad_weight_part();

template <class T>
ConvPart forward_part();
// By Winograd, with what stands before and behind them (winograd_fused.cpp), and whether they do that shape.
ConvPart winograd_forward_part();
bool winograd_forward_takes(const ConvShape& s);
ConvPart winograd_max_pool_part();
bool winograd_max_pool_takes(const ConvShape& s);
ConvPart winograd_grad_input_part();
bool winograd_grad_input_takes(const ConvShape& s);
// With few outputs, whose pixels take the lanes.
constexpr int64_t kFewOutputs = 8;
template <class T>
ConvPart max_pool_part();
// By a direct convolution (direct_pool.cpp), and whether it pays.
template <class T>
bool direct_pool_pays(const ConvShape& s);
template <class T>
ConvPart direct_pool_part();
// Whether conv2d does this shape in direct_way.
template <class T>
bool forward_is_direct(const ConvShape& s);
template <class T>
ConvPart max_pool_grad_weight_part();
template <class T>
ConvPart grad_input_part();
// Whether that goes by Winograd's filtering or on a matrix unit, with sums that repay it.
template <class T>
bool grad_input_multiplies_fast(const ConvShape& s);
template <class T>
ConvPart grad_weight_part();
// The one of these that suits the shape.
template <class T>
ConvPart grad_weight_part_of(const ConvShape& s);
template <class T>
ConvPart depthwise_forward_part();
template <class T>
ConvPart depthwise_grad_input_part();
template <class T>
ConvPart depthwise_grad_weight_part();

}  // namespace cnnmath::CNNMATH_ISA
