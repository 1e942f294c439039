// Maximum pooling: forward, backward, indices. See pool.h.
#include "kernels/pool/pool.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

constexpr uint8_t* kNoCode = nullptr;

// The first m codes are written, not a byte more: another task may own the next.
template <class T, class Code>
CNNMATH_INLINE void put_code(Code* p, Int<T> v, int64_t m) {
  constexpr int L = Int<T>::lanes;
  if (m == L && sizeof(Code) == 1) {
    store_u8<T>(reinterpret_cast<uint8_t*>(p), v);
  } else {
    typename Int<T>::Lane lanes[L];
    typedef typename Int<T>::Reg Loose __attribute__((aligned(sizeof(lanes[0])), may_alias));
    *reinterpret_cast<Loose*>(lanes) = v.r;
    for (int64_t i = 0; i < m; ++i) p[i] = static_cast<Code>(lanes[i]);
  }
}

// A whole vector: the buffer is long enough.
template <class T, class Code>
CNNMATH_INLINE Int<T> take_code(const Code* p) {
  if constexpr (sizeof(Code) == 1) {
    return load_u8<T>(p);
  } else {
    typename Int<T>::Reg r;
    for (int i = 0; i < Int<T>::lanes; ++i) r[i] = p[i];
    return {r};
  }
}

// One window: the steps from one of its inputs to the next, and what of it lies inside the map.
struct View {
  Window rows, cols;
  int64_t row_step, col_step;  // elements
  int64_t kw;
};

// V vectors of channels of one output. KH, KW: a window that lies inside the map, its size known to the
// compiler; 0: any. `Whole` is false for the last channels, of which there are m.
template <class T, class Code, int V, int KH, int KW, bool Whole>
CNNMATH_INLINE void max_block(const View& v, const T* x, T* y, Code* code, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> best[V];
  Int<T> place[V];
  bool none = true;
  const int64_t i0 = KH ? 0 : v.rows.first, i1 = KH ? KH : v.rows.last;
  const int64_t j0 = KH ? 0 : v.cols.first, j1 = KH ? KW : v.cols.last;
#pragma GCC unroll 3
  for (int64_t i = i0; i < i1; ++i) {
#pragma GCC unroll 3
    for (int64_t j = j0; j < j1; ++j) {
      const T* q = x + i * v.row_step + j * v.col_step;
      const Int<T> here = set1_int<T>(static_cast<typename Int<T>::Lane>(i * v.kw + j));
      if (none) {
        for (int b = 0; b < V; ++b) {
          best[b] = take<T, Whole>(q + b * L, m);
          place[b] = here;
        }
        none = false;
      } else {
        for (int b = 0; b < V; ++b) {
          const Vec<T> a = take<T, Whole>(q + b * L, m);
          const Mask<T> better = gt(a, best[b]) | ne(a, a);
          best[b] = select(better, a, best[b]);
          place[b] = select(better, here, place[b]);
        }
      }
    }
  }
  if (none) {
    for (int b = 0; b < V; ++b) {
      best[b] = set1<T>(-static_cast<T>(__builtin_inf()));
      place[b] = zero_int<T>();
    }
  }
  for (int b = 0; b < V; ++b) {
    put<T, Whole>(y + b * L, best[b], m);
    if (code != nullptr) put_code<T>(code + b * L, place[b], Whole ? L : m);
  }
}

template <class T, class Code, int KH, int KW>
CNNMATH_INLINE void max_window(const View& v, const T* x, T* y, Code* code, int64_t channels) {
  constexpr int L = Vec<T>::lanes;
  int64_t c = 0;
  for (; c + 4 * L <= channels; c += 4 * L)
    max_block<T, Code, 4, KH, KW, true>(v, x + c, y + c, code ? code + c : code, 4 * L);
  for (; c + L <= channels; c += L)
    max_block<T, Code, 1, KH, KW, true>(v, x + c, y + c, code ? code + c : code, L);
  if (c < channels)
    max_block<T, Code, 1, KH, KW, false>(v, x + c, y + c, code ? code + c : code, channels - c);
}

// -O3 would otherwise fuse the three sizes into one function with their registers spilt.
template <class T, class Code, int KH, int KW>
__attribute__((noinline)) void max_inside(const View& v, const T* x, T* y, Code* code, int64_t channels) {
  max_window<T, Code, KH, KW>(v, x, y, code, channels);
}

template <class T, class Code>
void max_forward(const Task& t, Code* code) {
  const PoolShape& s = pool_shape(t.p);
  const T* x = static_cast<const T*>(t.a[0]);
  T* y = static_cast<T*>(t.a[1]);
  const PoolAxis ra = rows_axis(s), ca = cols_axis(s);
  const Share k = pool_share(output_deal(s), s.n * s.oh, s.c, t.index);
  auto general = max_inside<T, Code, 0, 0>;
  auto inside = general;
  if (s.kh == 2 && s.kw == 2) inside = max_inside<T, Code, 2, 2>;
  if (s.kh == 3 && s.kw == 3) inside = max_inside<T, Code, 3, 3>;
  for (int64_t r = k.row0; r < k.row1; ++r) {
    const int64_t n = r / s.oh, oh = r % s.oh;
    View v;
    v.rows = pool_window(ra, oh);
    v.kw = s.kw;
    v.row_step = v.rows.step * s.w * s.c;
    for (int64_t ow = 0; ow < s.ow; ++ow) {
      v.cols = pool_window(ca, ow);
      v.col_step = v.cols.step * s.c;
      const T* corner = x + ((n * s.h + v.rows.base) * s.w + v.cols.base) * s.c + k.c0;
      const int64_t o = (r * s.ow + ow) * s.c + k.c0;
      const bool whole = v.rows.first == 0 && v.rows.last == s.kh && v.cols.first == 0 && v.cols.last == s.kw;
      (whole ? inside : general)(v, corner, y + o, code ? code + o : code, k.c1 - k.c0);
    }
  }
}

// Windows apart: the outputs of a row are read and the inputs of row ki of their windows written, with zeros
// where no window is.
template <class T, class Code>
void spread_row(const PoolShape& s, const T* dy, const Code* code, T* dx, int64_t ki, int64_t c0,
                int64_t c1) {
  constexpr int64_t L = Vec<T>::lanes;
  const int64_t channels = s.c, kw = s.kw, sw = s.sw, w = s.w, ow = s.ow, first = ki * kw;
  for (int64_t o = 0; o < ow; ++o) {
    const int64_t j1 = least(kw, w - o * sw), gap = o + 1 < ow ? sw : w - o * sw;
    for (int64_t c = c0; c < c1; c += L) {
      const int64_t m = least(L, c1 - c);
      const bool full = m == L;
      const Vec<T> g = full ? load(dy + o * channels + c) : load_n(dy + o * channels + c, m);
      const Int<T> place = take_code<T>(code + o * channels + c);
      T* q = dx + o * sw * channels + c;
      for (int64_t j = 0; j < gap; ++j, q += channels) {
        const auto here = static_cast<typename Int<T>::Lane>(j < j1 ? first + j : -1);
        const Vec<T> v = select(eq(place, set1_int<T>(here)), g, zero<T>());
        if (full)
          store(q, v);
        else
          store_n(q, v, m);
      }
    }
  }
}

// Sum over the sources of an input, V vectors of channels (or the first m of one).
template <class T, class Code, int V, bool Whole>
CNNMATH_INLINE void gather(const T* dy, const Code* code, const Source<int64_t>* sources, int64_t count,
                           T* dx, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> sum[V];
  for (int b = 0; b < V; ++b) sum[b] = zero<T>();
  for (int64_t a = 0; a < count; ++a) {
    const int64_t o = sources[a].offset;
    const Int<T> here = set1_int<T>(static_cast<typename Int<T>::Lane>(sources[a].tag));
    for (int b = 0; b < V; ++b) {
      const Mask<T> mine = eq(take_code<T>(code + o + b * L), here);
      sum[b] = sum[b] + select(mine, take<T, Whole>(dy + o + b * L, m), zero<T>());
    }
  }
  for (int b = 0; b < V; ++b) put<T, Whole>(dx + b * L, sum[b], m);
}

template <class T, class Code>
void max_backward(const Task& t) {
  constexpr int64_t L = Vec<T>::lanes;
  const PoolShape& s = pool_shape(t.p);
  const T* dy = static_cast<const T*>(t.a[0]);
  const Code* code = static_cast<const Code*>(t.a[1]);
  T* dx = static_cast<T*>(t.a[2]);
  const Share k = pool_share(input_deal(s), s.n * s.h, s.c, t.index);
  if (windows_apart(s)) {
    for (int64_t r = k.row0; r < k.row1; ++r) {
      const int64_t n = r / s.h, ih = r % s.h, oh = ih / s.sh, ki = ih % s.sh;
      T* row = dx + r * s.w * s.c;
      if (oh < s.oh && ki < s.kh) {
        const int64_t o = (n * s.oh + oh) * s.ow * s.c;
        spread_row<T, Code>(s, dy + o, code + o, row, ki, k.c0, k.c1);
      } else {
        for (int64_t j = 0; j < s.w; ++j)
          for (int64_t c = k.c0; c < k.c1; ++c) row[j * s.c + c] = 0;
      }
    }
    return;
  }
  const PoolAxis ra = rows_axis(s), ca = cols_axis(s);
  const HolderTable cols = holder_table(ca, t.scratch);
  Holder* rows = reinterpret_cast<Holder*>(static_cast<char*>(t.scratch) + holder_bytes(ca));
  auto* sources = reinterpret_cast<Source<int64_t>*>(rows + most_holders(ra));
  for (int64_t r = k.row0; r < k.row1; ++r) {
    const int64_t n = r / s.h, row_count = pool_holders(ra, r % s.h, rows), map = n * s.oh * s.ow * s.c;
    const T* dy_map = dy + map;
    const Code* code_map = code + map;
    for (int64_t j = 0; j < s.w; ++j) {
      int64_t count = 0;
      for (int64_t a = 0; a < row_count; ++a)
        for (int64_t b = cols.start[j]; b < cols.start[j + 1]; ++b)
          sources[count++] = {(rows[a].o * s.ow + cols.list[b].o) * s.c, rows[a].k * s.kw + cols.list[b].k};
      T* q = dx + (r * s.w + j) * s.c;
      int64_t c = k.c0;
      for (; c + 4 * L <= k.c1; c += 4 * L)
        gather<T, Code, 4, true>(dy_map + c, code_map + c, sources, count, q + c, L);
      for (; c + L <= k.c1; c += L)
        gather<T, Code, 1, true>(dy_map + c, code_map + c, sources, count, q + c, L);
      if (c < k.c1) gather<T, Code, 1, false>(dy_map + c, code_map + c, sources, count, q + c, k.c1 - c);
    }
  }
}

template <class Code>
void indices(const Task& t) {
  const PoolShape& s = pool_shape(t.p);
  const Code* code = static_cast<const Code*>(t.a[0]);
  int64_t* index = static_cast<int64_t*>(t.a[1]);
  const PoolAxis ra = rows_axis(s), ca = cols_axis(s);
  const Share k = pool_share(output_deal(s), s.n * s.oh, s.c, t.index);
  for (int64_t r = k.row0; r < k.row1; ++r) {
    const Window rows = pool_window(ra, r % s.oh);
    for (int64_t ow = 0; ow < s.ow; ++ow) {
      const Window cols = pool_window(ca, ow);
      const int64_t o = (r * s.ow + ow) * s.c;
      // A window without an input has no maximum; PyTorch names the first place that is not before the map.
      const bool none = rows.last <= rows.first || cols.last <= cols.first;
      for (int64_t c = k.c0; c < k.c1; ++c) {
        const int64_t place = code[o + c];
        const int64_t i = none ? rows.first : place / s.kw, j = none ? cols.first : place % s.kw;
        index[o + c] = (rows.base + i * rows.step) * s.w + cols.base + j * cols.step;
      }
    }
  }
}

}  // namespace

template <class T>
void max_pool2d(const Task& t) {
  if (t.a[2] == nullptr)
    max_forward<T, uint8_t>(t, kNoCode);
  else if (pool_shape(t.p).wide)
    max_forward<T, int32_t>(t, static_cast<int32_t*>(t.a[2]));
  else
    max_forward<T, uint8_t>(t, static_cast<uint8_t*>(t.a[2]));
}
template <class T>
void max_pool2d_backward(const Task& t) {
  if (pool_shape(t.p).wide)
    max_backward<T, int32_t>(t);
  else
    max_backward<T, uint8_t>(t);
}
void max_pool2d_indices(const Task& t) {
  if (pool_shape(t.p).wide)
    indices<int32_t>(t);
  else
    indices<uint8_t>(t);
}

template void max_pool2d<float>(const Task&);
template void max_pool2d<double>(const Task&);
template void max_pool2d_backward<float>(const Task&);
template void max_pool2d_backward<double>(const Task&);

}  // namespace cnnmath::CNNMATH_ISA
