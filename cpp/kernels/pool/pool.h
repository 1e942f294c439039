// Pooling over windows of a channels-last map: maximum and average, strided and adaptive.
//
// Layout   x, dx: [n][h][w][c];  y, dy, code, index: [n][oh][ow][c]; channels lie in the lanes of a vector.
// Window   strided:  output i sees the inputs i*s - p + k*d, 0 <= k < K, as far as they lie inside the map;
//          adaptive: output i sees floor(i*H/OH) ... ceil((i+1)*H/OH) - 1, K is the longest such window, d = 1.
// Aliasing none.
//
// max_pool2d            y = max over the window of x. The first of equal maxima wins, a NaN beats every number and a
//                       later NaN an earlier one (PyTorch's rule). A window without an input (dilation can
//                       make one) gives -inf. `code` (may be null) is the place of the maximum in its window,
//                       ki*kw + kj: one byte, or int32 with wide = 1 (needed for windows of more than 255 places).
//                       Its buffer is 64 bytes longer than the codes: they are read by whole vectors.
// max_pool2d_backward   dx[i] = sum of dy[o] over the windows o whose maximum is input i, in the order of o.
// max_pool2d_indices    index = ih*w + iw of the maximum (int64), from the code.
// avg_pool2d            y = sum over the window / divisor, where divisor is the given one if it is not 0, else the
//                       number of places of the window in the padded map (include_pad = 1) or in the map (0).
// avg_pool2d_backward   dx[i] = sum over the windows o that hold i of dy[o] / divisor(o).
//
// Every element of a result is computed by one task in a fixed order: no atomics, no reduction across tasks.
#pragma once
#include "core/kernel.h"
#include "simd/vec.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

// The fields of every kernel of the family, in order.
struct PoolShape {
  int64_t n, h, w, c, oh, ow;
  int64_t kh, kw, sh, sw, ph, pw, dh, dw;
  int64_t adaptive;
  int64_t wide;         // maxima: codes are int32
  int64_t include_pad;  // averages
  int64_t divisor;      // averages
};
#define CNNMATH_POOL_FIELDS "n h w c oh ow kh kw sh sw ph pw dh dw adaptive wide include_pad divisor"

static inline const PoolShape& pool_shape(const int64_t* p) { return *reinterpret_cast<const PoolShape*>(p); }

// One axis of a pooling.
struct PoolAxis {
  int64_t in, out, k, s, p, d, adaptive;
};
static inline PoolAxis rows_axis(const PoolShape& s) {
  return {s.h, s.oh, s.kh, s.sh, s.ph, s.dh, s.adaptive};
}
static inline PoolAxis cols_axis(const PoolShape& s) {
  return {s.w, s.ow, s.kw, s.sw, s.pw, s.dw, s.adaptive};
}

// Inputs base + k*step for first <= k < last.
struct Window {
  int64_t base, step, first, last;
};

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline Window pool_window(const PoolAxis& a, int64_t o) {
  if (a.adaptive) {
    const int64_t base = o * a.in / a.out;
    return {base, 1, 0, ceil_div((o + 1) * a.in, a.out) - base};
  }
  Window v{o * a.s - a.p, a.d, 0, a.k};
  if (v.base < 0) v.first = ceil_div(-v.base, a.d);
  if (v.base + (a.k - 1) * a.d >= a.in) v.last = v.base >= a.in ? 0 : ceil_div(a.in - v.base, a.d);
  return v;
}

// Divisor of an average along one axis: the product of both axes divides the sum.
static inline int64_t pool_extent(const PoolAxis& a, const Window& v, int64_t o, bool include_pad) {
  if (!include_pad || a.adaptive) return most(v.last - v.first, 0);
  const int64_t begin = o * a.s - a.p;
  return least(begin + a.k, a.in + a.p) - begin;
}

// A window o that holds an input, as its place k.
struct Holder {
  int64_t o, k;
};

// The windows that hold input i, in ascending order; their number is returned (at most out).
static inline int64_t pool_holders(const PoolAxis& a, int64_t i, Holder* list) {
  int64_t count = 0, from, to;
  if (a.adaptive) {
    from = i * a.out / a.in;
    to = least(ceil_div((i + 1) * a.out, a.in), a.out);
  } else {
    const int64_t reach = i + a.p - (a.k - 1) * a.d;
    from = reach > 0 ? ceil_div(reach, a.s) : 0;
    to = least((i + a.p) / a.s + 1, a.out);
  }
  for (int64_t o = from; o < to; ++o) {
    const Window v = pool_window(a, o);
    const int64_t k = (i - v.base) / v.step;
    if (v.base + k * v.step == i && k >= v.first && k < v.last) list[count++] = {o, k};
  }
  return count;
}

// The holders of every input of an axis: those of input i are list[start[i]] ... list[start[i + 1] - 1].
struct HolderTable {
  int64_t* start;
  Holder* list;
};
static inline int64_t holder_bytes(const PoolAxis& a) {
  return (a.in + 1) * static_cast<int64_t>(sizeof(int64_t)) +
         a.out * a.k * static_cast<int64_t>(sizeof(Holder));
}
static inline HolderTable holder_table(const PoolAxis& a, void* memory) {
  HolderTable t;
  t.start = static_cast<int64_t*>(memory);
  t.list = reinterpret_cast<Holder*>(t.start + a.in + 1);
  int64_t end = 0;
  for (int64_t i = 0; i < a.in; ++i) {
    t.start[i] = end;
    end += pool_holders(a, i, t.list + end);
  }
  t.start[a.in] = end;
  return t;
}

// Windows that neither overlap nor begin before the map: a backward pass reads an output and writes its
// window.
static inline bool windows_apart(const PoolShape& s) {
  return !s.adaptive && s.ph == 0 && s.pw == 0 && s.dh == 1 && s.dw == 1 && s.kh <= s.sh && s.kw <= s.sw;
}

// How the rows of a map are dealt to tasks: `rows` consecutive rows (of all n maps) a task, and where a
// single row is much work also `channels` of them. `taps` are the numbers read or written for one row and
// channel.
struct Deal {
  int64_t rows, row_tasks, channels, channel_tasks;
};
static inline Deal pool_deal(int64_t all_rows, int64_t taps, int64_t c) {
  constexpr int64_t kGrain = 32768;
  const int64_t work = most(taps * c, 1);
  Deal d;
  d.rows = most(kGrain / work, 1);
  d.row_tasks = ceil_div(all_rows, d.rows);
  d.channels = c;
  d.channel_tasks = 1;
  if (work > 4 * kGrain) {
    d.channels = most(ceil_div(kGrain, taps), 64) / 64 * 64;
    d.channel_tasks = most(ceil_div(c, d.channels), 1);
  }
  return d;
}
// Row range and channel range of a task.
struct Share {
  int64_t row0, row1, c0, c1;
};
static inline Share pool_share(const Deal& d, int64_t all_rows, int64_t c, int64_t index) {
  const int64_t r = index / d.channel_tasks, k = index % d.channel_tasks;
  return {r * d.rows, least((r + 1) * d.rows, all_rows), k * d.channels, least((k + 1) * d.channels, c)};
}
static inline Deal output_deal(const PoolShape& s) { return pool_deal(s.n * s.oh, s.ow * s.kh * s.kw, s.c); }
static inline Deal input_deal(const PoolShape& s) {
  return pool_deal(s.n * s.h, s.w * most(ceil_div(s.kh, s.sh) * ceil_div(s.kw, s.sw), 2), s.c);
}

static inline int pool_phases(const int64_t*) { return 1; }
static inline int64_t pool_no_bytes(const int64_t*) { return 0; }
static inline int64_t output_tasks(const int64_t* p, int) {
  const Deal d = output_deal(pool_shape(p));
  return d.row_tasks * d.channel_tasks;
}
static inline int64_t input_tasks(const int64_t* p, int) {
  const Deal d = input_deal(pool_shape(p));
  return d.row_tasks * d.channel_tasks;
}
// A place where the gradient of one input comes from: an element of dy (of its channel 0, in its map), and
// the place of the input in that window (maxima) or the window's divisor (averages).
template <class Tag>
struct Source {
  int64_t offset;
  Tag tag;
};
// Windows that hold one input, at most.
static inline int64_t most_holders(const PoolAxis& a) { return a.adaptive ? a.out : least(a.out, a.k); }

// Scratch of the backward passes: the holders of the columns and of one row, the sources of one input, and
// (averages) the widths of the windows.
static inline int64_t backward_scratch(const int64_t* p) {
  const PoolShape& s = pool_shape(p);
  const int64_t rows = most_holders(rows_axis(s)), cols = most_holders(cols_axis(s));
  return holder_bytes(cols_axis(s)) + rows * static_cast<int64_t>(sizeof(Holder)) +
         rows * cols * static_cast<int64_t>(sizeof(Source<double>)) +
         s.ow * static_cast<int64_t>(sizeof(int64_t));
}

// All of a vector, or its first m lanes.
template <class T, bool Whole>
static CNNMATH_INLINE Vec<T> take(const T* p, int64_t m) {
  if constexpr (Whole)
    return load(p);
  else
    return load_n(p, m);
}
template <class T, bool Whole>
static CNNMATH_INLINE void put(T* p, Vec<T> v, int64_t m) {
  if constexpr (Whole)
    store(p, v);
  else
    store_n(p, v, m);
}

template <class T>
void max_pool2d(const Task& t);
template <class T>
void max_pool2d_backward(const Task& t);
void max_pool2d_indices(const Task& t);
template <class T>
void avg_pool2d(const Task& t);
template <class T>
void avg_pool2d_backward(const Task& t);

}  // namespace cnnmath::CNNMATH_ISA
