#include "kernels/tile/split_products.h"

#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

#if defined(__AMX_BF16__)
namespace {

int64_t line_of(const SplitProductsShape& s) { return ceil_div(s.most_rows, kSplitDepth) * kSplitBlock; }

}  // namespace

bool SplitProducts::takes(int64_t ins, int64_t outs) {
  return ins % kSplitLanes == 0 && outs % kSplitLanes == 0;
}

int64_t SplitProducts::bytes(const SplitProductsShape& s) {
  return (s.ins + s.outs) / kSplitLanes * line_of(s) + ceil_div(s.most_rows, kSplitDepth) * 8;
}

SplitProducts::SplitProducts(const SplitProductsShape& s, char* memory)
    : shape_(s),
      x_(memory),
      y_(memory + s.ins / kSplitLanes * line_of(s)),
      offset_(reinterpret_cast<int64_t*>(y_ + s.outs / kSplitLanes * line_of(s))) {
  for (int64_t q = 0; q < ceil_div(s.most_rows, kSplitDepth); ++q) offset_[q] = q * kSplitBlock;
}

void SplitProducts::add(const float* x, const float* y, int64_t rows, bool accumulate, float* sums) const {
  const SplitProductsShape& s = shape_;
  const int64_t line = line_of(s), blocks = ceil_div(rows, kSplitDepth);
  for (int64_t q = 0; q < blocks; ++q) {
    const int64_t first = q * kSplitDepth, depth = min_of(rows - first, kSplitDepth);
    for (int64_t i = 0; i < s.ins; i += kSplitLanes)
      split_a(x_ + i / kSplitLanes * line + offset_[q], x + first * s.x_step + i, Lie::along_i, s.x_step,
              kSplitLanes, depth);
    for (int64_t o = 0; o < s.outs; o += kSplitLanes)
      split_b(y_ + o / kSplitLanes * line + offset_[q], y + first * s.y_step + o, Lie::along_i, s.y_step,
              kSplitLanes, depth, Pairs::apart);
  }
  for (int64_t i = 0; i < s.ins; i += 2 * kSplitLanes) {
    const char* const a[2] = {x_ + i / kSplitLanes * line, x_ + (i / kSplitLanes + 1) * line};
    const int ma = s.ins - i > kSplitLanes ? 2 : 1;
    for (int64_t o = 0; o < s.outs; o += 2 * kSplitLanes) {
      float* const c[2] = {sums + i * s.sums_step + o, sums + (i + kSplitLanes) * s.sums_step + o};
      SplitCall call{};
      call.blocks = blocks;
      call.a_offset = call.b_offset = offset_;
      call.a_row = 64, call.a_plane = call.b_plane = kSplitTile;
      call.b = y_ + o / kSplitLanes * line, call.b_tile = line;
      call.accumulate = accumulate;
      call.c_row = s.sums_step * 4, call.c_tile = 64;
      split_tile(ma, s.outs - o > kSplitLanes ? 2 : 1)(a, c, call);
    }
  }
}
#else
bool SplitProducts::takes(int64_t, int64_t) { return false; }
int64_t SplitProducts::bytes(const SplitProductsShape&) { return 0; }
SplitProducts::SplitProducts(const SplitProductsShape& s, char*) : shape_(s), x_(), y_(), offset_() {}
void SplitProducts::add(const float*, const float*, int64_t, bool, float*) const {}
#endif

}  // namespace cnnmath::CNNMATH_ISA
