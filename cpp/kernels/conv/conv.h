// Convolution in two dimensions and its gradients.
//
//   y[n,p,q,o] = act(bias[o] + sum over i,j,k of x[n, p*sh - pt + i*dh, q*sw - pl + j*dw, k] w[i,j,k,o])
//
// x outside its map counts as 0; k runs over the c/groups channels of o's group. x is [n][h][w][c], y is
// [n][oh][ow][oc], w is [kh][kw][c/groups][oc], all dense. The padding at the bottom and on the right follows
// from oh and ow.
//
// Kernels (all take the fields of ConvShape, in order; any of the sizes but groups, strides and dilations may
// be 0):
//   conv2d               args "x w bias? y"   y as above; act is relu (max(0, .), NaN stays) when `relu` is 1
//   conv2d_grad_input    args "dy w dx"       dx[n,h,w,k] = sum of dy[n,p,q,o] w[i,j,k,o] over all (p,q,o,i,j)
//                        that x[n,h,w,k] went into
//   conv2d_grad_weight   args "x dy dw"       dw[i,j,k,o] = sum over n,p,q of x[n, ., ., k] dy[n,p,q,o]
// (The gradient of the bias is column_sums, in gemm.)
//   conv2d_max_pool              args "x w bias? y code?"   y = the maxima of conv2d's output over windows of 2x2, apart from each
//                        other (a last odd row or column belongs to none), code their places as in pool.h; at most 16 output
//                        channels, horizontal stride 1, no groups
//   conv2d_max_pool_grad_weight  args "x dy code dw"        dw, from the gradient dy of such maxima: each counts where it was taken;
//                        dilation 1, stride 1, no groups
// In training, float32, where Winograd's filtering suits (`takes`); n is max(0, (x - mean) * scale + shift), to the bit as
// batch_norm gives it, `norm` being [3][channels] of these three:
//   conv2d_winograd              args "x norm? w bias? y mean? m2?"  y from n in the place of x; mean of each channel of y, and the
//                        sum of squared differences from it
//   conv2d_winograd_max_pool     args "x norm? w bias? y code?"     as conv2d_max_pool, also where nothing is trained
//   conv2d_winograd_grad_weight  args "x norm? dy code? dw"         dw from n in the place of x. With code dy is the gradient of the
//                        maxima of y over windows of 2x2, apart from each other, and code their places: [n][oh/2][ow/2][oc]
//   conv2d_winograd_grad_input   args "dy code? w y? dx sum?"       dx, but 0 where y <= 0; with y its sum over each channel
// `relu` is read by those that give y. `direct` is 1 where sums must not be taken by Winograd's filtering. `lasting` is
// 1 where what packing the weights leaves serves many runs; it changes no bit. Outputs are overwritten, and alias no input.
#pragma once
#include <cstdint>

#define CNNMATH_CONV_FIELDS "n h w c oc oh ow kh kw sh sw dh dw pt pl groups relu direct lasting"

namespace cnnmath {

struct ConvShape {
  int64_t n, h, w, c;  // x
  int64_t oc, oh, ow;  // y
  int64_t kh, kw;
  int64_t sh, sw, dh, dw;  // stride, dilation
  int64_t pt, pl;          // padding above and on the left
  int64_t groups;
  int64_t relu;
  int64_t direct;
  int64_t lasting;
};

}  // namespace cnnmath
