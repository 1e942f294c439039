// Average pooling: forward and backward. See pool.h.
//
// A window is summed row by row and the sums of the rows are added: with a large window (global pooling) the
// rounding error grows with its height plus its width instead of their product.
#include "kernels/pool/pool.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

template <class T, int V, bool Whole>
CNNMATH_INLINE void sum_block(const Window& rows, const Window& cols, int64_t row_step, int64_t col_step,
                              T divisor, const T* x, T* y, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> sum[V];
  for (int b = 0; b < V; ++b) sum[b] = zero<T>();
  for (int64_t i = rows.first; i < rows.last; ++i) {
    Vec<T> line[V];
    for (int b = 0; b < V; ++b) line[b] = zero<T>();
    for (int64_t j = cols.first; j < cols.last; ++j) {
      const T* q = x + i * row_step + j * col_step;
      for (int b = 0; b < V; ++b) line[b] = line[b] + take<T, Whole>(q + b * L, m);
    }
    for (int b = 0; b < V; ++b) sum[b] = sum[b] + line[b];
  }
  const Vec<T> d = set1<T>(divisor);
  for (int b = 0; b < V; ++b) put<T, Whole>(y + b * L, sum[b] / d, m);
}

// Divisor of a window of rows x cols; a window without an input has the average 0 whatever it is.
template <class T>
CNNMATH_INLINE T divisor_of(const PoolShape& s, int64_t rows, int64_t cols) {
  if (rows * cols <= 0) return 1;
  return static_cast<T>(s.divisor != 0 ? s.divisor : rows * cols);
}

// Sum over the sources of an input, V vectors of channels (or the first m of one). Equal: all divisors are
// that of the first source, and one division does.
template <class T, int V, bool Whole, bool Equal>
CNNMATH_INLINE void gather(const T* dy, const Source<T>* sources, int64_t count, T* dx, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> sum[V];
  for (int b = 0; b < V; ++b) sum[b] = zero<T>();
  for (int64_t a = 0; a < count; ++a) {
    const T* q = dy + sources[a].offset;
    const Vec<T> divisor = set1<T>(sources[a].tag);
    for (int b = 0; b < V; ++b) {
      const Vec<T> g = take<T, Whole>(q + b * L, m);
      sum[b] = sum[b] + (Equal ? g : g / divisor);
    }
  }
  const Vec<T> divisor = set1<T>(Equal && count > 0 ? sources[0].tag : T{1});
  for (int b = 0; b < V; ++b) put<T, Whole>(dx + b * L, Equal ? sum[b] / divisor : sum[b], m);
}

// Windows apart: the outputs of a row are read and the inputs of one row of their windows written, with zeros
// where no window is. `tall` is the extent of that row of windows, 0 where the row lies between windows.
template <class T>
void spread_row(const PoolShape& s, const T* dy, T* dx, int64_t tall, const int64_t* wide, int64_t c0,
                int64_t c1) {
  constexpr int64_t L = Vec<T>::lanes;
  const int64_t channels = s.c, kw = s.kw, sw = s.sw, w = s.w, ow = s.ow;
  for (int64_t o = 0; o < ow; ++o) {
    const int64_t gap = o + 1 < ow ? sw : w - o * sw, inside = tall > 0 ? least(kw, gap) : 0;
    const Vec<T> divisor = set1<T>(divisor_of<T>(s, tall, wide[o]));
    for (int64_t c = c0; c < c1; c += L) {
      const int64_t m = least(L, c1 - c);
      const bool full = m == L;
      Vec<T> g = zero<T>();
      if (inside > 0) g = (full ? load(dy + o * channels + c) : load_n(dy + o * channels + c, m)) / divisor;
      T* q = dx + o * sw * channels + c;
      for (int64_t j = 0; j < gap; ++j, q += channels) {
        const Vec<T> v = j < inside ? g : zero<T>();
        if (full)
          store(q, v);
        else
          store_n(q, v, m);
      }
    }
  }
}

template <class T, bool Equal>
void gather_pixel(const T* dy, const Source<T>* sources, int64_t count, T* dx, int64_t channels) {
  constexpr int64_t L = Vec<T>::lanes;
  int64_t c = 0;
  for (; c + 4 * L <= channels; c += 4 * L) gather<T, 4, true, Equal>(dy + c, sources, count, dx + c, L);
  for (; c + L <= channels; c += L) gather<T, 1, true, Equal>(dy + c, sources, count, dx + c, L);
  if (c < channels) gather<T, 1, false, Equal>(dy + c, sources, count, dx + c, channels - c);
}

}  // namespace

template <class T>
void avg_pool2d(const Task& t) {
  constexpr int L = Vec<T>::lanes;
  const PoolShape& s = pool_shape(t.p);
  const T* x = static_cast<const T*>(t.a[0]);
  T* y = static_cast<T*>(t.a[1]);
  const PoolAxis ra = rows_axis(s), ca = cols_axis(s);
  const bool include_pad = s.include_pad != 0;
  const Share k = pool_share(output_deal(s), s.n * s.oh, s.c, t.index);
  for (int64_t r = k.row0; r < k.row1; ++r) {
    const int64_t n = r / s.oh, oh = r % s.oh;
    const Window rows = pool_window(ra, oh);
    const int64_t tall = pool_extent(ra, rows, oh, include_pad);
    for (int64_t ow = 0; ow < s.ow; ++ow) {
      const Window cols = pool_window(ca, ow);
      const T divisor = divisor_of<T>(s, tall, pool_extent(ca, cols, ow, include_pad));
      const int64_t row_step = rows.step * s.w * s.c, col_step = cols.step * s.c;
      const T* corner = x + ((n * s.h + rows.base) * s.w + cols.base) * s.c;
      T* q = y + (r * s.ow + ow) * s.c;
      int64_t c = k.c0;
      for (; c + 4 * L <= k.c1; c += 4 * L)
        sum_block<T, 4, true>(rows, cols, row_step, col_step, divisor, corner + c, q + c, L);
      for (; c + L <= k.c1; c += L)
        sum_block<T, 1, true>(rows, cols, row_step, col_step, divisor, corner + c, q + c, L);
      if (c < k.c1)
        sum_block<T, 1, false>(rows, cols, row_step, col_step, divisor, corner + c, q + c, k.c1 - c);
    }
  }
}

template <class T>
void avg_pool2d_backward(const Task& t) {
  const PoolShape& s = pool_shape(t.p);
  const T* dy = static_cast<const T*>(t.a[0]);
  T* dx = static_cast<T*>(t.a[1]);
  const PoolAxis ra = rows_axis(s), ca = cols_axis(s);
  const bool include_pad = s.include_pad != 0;
  const Share k = pool_share(input_deal(s), s.n * s.h, s.c, t.index);
  const HolderTable cols = holder_table(ca, t.scratch);
  Holder* rows = reinterpret_cast<Holder*>(static_cast<char*>(t.scratch) + holder_bytes(ca));
  auto* sources = reinterpret_cast<Source<T>*>(rows + most_holders(ra));
  int64_t* wide = reinterpret_cast<int64_t*>(sources + most_holders(ra) * most_holders(ca));
  for (int64_t ow = 0; ow < s.ow; ++ow) wide[ow] = pool_extent(ca, pool_window(ca, ow), ow, include_pad);
  if (windows_apart(s)) {
    for (int64_t r = k.row0; r < k.row1; ++r) {
      const int64_t n = r / s.h, ih = r % s.h, oh = ih / s.sh;
      const bool held = oh < s.oh && ih % s.sh < s.kh;
      const int64_t tall = held ? pool_extent(ra, pool_window(ra, oh), oh, include_pad) : 0;
      spread_row(s, dy + (n * s.oh + (held ? oh : 0)) * s.ow * s.c, dx + r * s.w * s.c, tall, wide, k.c0,
                 k.c1);
    }
    return;
  }
  for (int64_t r = k.row0; r < k.row1; ++r) {
    const int64_t n = r / s.h, row_count = pool_holders(ra, r % s.h, rows);
    const T* map = dy + n * s.oh * s.ow * s.c + k.c0;
    for (int64_t j = 0; j < s.w; ++j) {
      int64_t count = 0;
      bool equal = true;
      for (int64_t a = 0; a < row_count; ++a) {
        const int64_t oh = rows[a].o, tall = pool_extent(ra, pool_window(ra, oh), oh, include_pad);
        for (int64_t b = cols.start[j]; b < cols.start[j + 1]; ++b) {
          const int64_t ow = cols.list[b].o;
          sources[count] = {(oh * s.ow + ow) * s.c, divisor_of<T>(s, tall, wide[ow])};
          equal = equal && sources[count].tag == sources[0].tag;
          ++count;
        }
      }
      (equal ? gather_pixel<T, true> : gather_pixel<T, false>)(map, sources, count,
                                                               dx + (r * s.w + j) * s.c + k.c0, k.c1 - k.c0);
    }
  }
}

template void avg_pool2d<float>(const Task&);
template void avg_pool2d<double>(const Task&);
template void avg_pool2d_backward<float>(const Task&);
template void avg_pool2d_backward<double>(const Task&);

}  // namespace cnnmath::CNNMATH_ISA
