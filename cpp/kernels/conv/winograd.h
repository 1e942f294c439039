// A sweep of 3 x 3 taps at distance 1 by Winograd's minimal filtering (S. Winograd 1980; A. Lavin and S. Gray 2016):
// 4 x 4 outputs from 6 x 6 inputs in 36 multiplications instead of 144,
//
//   Y = A^T [ sum over k of (G g_k G^T) o (B^T d_k B) ] A          o: number by number
//
// with A, B, G from the points 0, 1, -1, 1/2, -2 and infinity. Each of the 36 numbers is a matrix product of its own over
// the channels: tiles of pixels x channels times channels x outputs.
//
// A task transforms some tiles of the source into scratch (its own L2, if channels are not many) and takes them through the products,
// by vectors or on a matrix unit (winograd_split.h), and back. Sums of 36
// numbers cancel where direct ones do not: the rounding error is two to six times that of a direct convolution. Tiles in
// which an output is not finite are summed directly.
#pragma once
#include "kernels/conv/sweep.h"

namespace cnnmath::CNNMATH_ISA {

constexpr int kWinogradOut = 4, kWinogradIn = 6, kWinogradPoints = 36;

// Whether tiles on a map of outputs of this size are filled well enough.
bool winograd_fills(int64_t rows, int64_t columns);
// Whether a convolution of 3 x 3 taps at distance 1 with these channels and a map of outputs of this size is faster so: for its
// forward pass and both gradients.
bool winograd_suits(int64_t in, int64_t out, int64_t rows, int64_t columns);

// Whether it pays for a sweep; never in float64, whose users want the digits.
template <class T>
bool winograd_pays(const Sweep<T>& s);
template <class T>
SweepWay<T> winograd_way(const Sweep<T>& s);

// What a sweep does besides, as it reads its source and writes its outputs; all of it may be missing. Arrays lie as the outputs do.
struct WinogradExtras {
  Reading source;
  const float* bias;
  int64_t relu;
  // With codes (as in kernels/pool/pool.h; may be null): what a max-pool of 2 x 2 windows apart makes of the outputs, in their
  // place, [n][v.outs / 2][u.outs / 2][oc]. Both outs are even.
  bool pools;
  uint8_t* codes;
  const float* passed;  // a gradient is 0 where this is not above 0: the output of a ReLU
  // Mean and sum of squared differences of a task's outputs; of a gradient the sum. Tasks of the same tiles share a part:
  // [2][outputs, in whole vectors], the number of pixels.
  float* parts;
};
struct WinogradParts {
  int64_t count, step;  // number of parts, numbers of each
  int64_t outs;         // outputs in whole vectors
};
WinogradParts winograd_parts(const Sweep<float>& s);
// SweepWay::run with these.
void winograd_run(const Sweep<float>& s, const float* x, const WinogradExtras& extras,
                  const WeightsAt<float>& w, const void* packed, float* y, void* scratch, int64_t task);

// A way to do a Winograd sweep: as in SweepWay, with extras and parts.
struct WinogradWay {
  int64_t (*pack_tasks)(const Sweep<float>& s);
  int64_t (*packed_bytes)(const Sweep<float>& s);
  void (*pack)(const Sweep<float>& s, const WeightsAt<float>& w, void* packed, int64_t task);
  int64_t (*tasks)(const Sweep<float>& s);
  int64_t (*scratch)(const Sweep<float>& s);
  WinogradParts (*parts)(const Sweep<float>& s);
  void (*run)(const Sweep<float>& s, const float* x, const WinogradExtras& extras, const WeightsAt<float>& w,
              const void* packed, float* y, void* scratch, int64_t task);
};

}  // namespace cnnmath::CNNMATH_ISA
