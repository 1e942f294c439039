// Convolutions in which every channel has a filter of its own: channels in the lanes, pixels one after the
// other.
#include "kernels/conv/parts.h"
#include "kernels/conv/sweep.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kTaskFlops = int64_t{kVecBytes} << 14;

// Taps [first, last) of an axis that find position t of the sweep inside a source of `size`.
struct Range {
  int64_t first, last;
};
Range taps_inside(const Axis& a, int64_t t, int64_t size) {
  const int64_t start = t * a.source_step + a.offset;
  const int64_t first = start >= 0 ? 0 : ceil_div(-start, a.offset_step);
  const int64_t last = start >= size ? 0 : ceil_div(size - start, a.offset_step);
  return {min_of(first, a.taps), min_of(last, a.taps)};
}

// A sweep over one channel a lane: what Sweep is to the tile.
template <class T>
struct ChannelSweep {
  Axis v, u;
  int64_t h, w, c, kw;  // source; width of the kernel
  int64_t out_h, out_w;
  const T* x;
  const T* weights;
  const T* bias;
  T* y;
  int64_t relu;

  const T* source(int64_t image, int64_t t, int64_t i, int64_t q, int64_t j) const {
    const int64_t row = t * v.source_step + v.offset + i * v.offset_step;
    const int64_t column = q * u.source_step + u.offset + j * u.offset_step;
    return x + ((image * h + row) * w + column) * c;
  }
  const T* tap(int64_t i, int64_t j) const {
    return weights + ((v.tap_begin + i * v.tap_step) * kw + u.tap_begin + j * u.tap_step) * c;
  }

  // P pixels from q on, of row t, that see the same taps.
  template <int P>
  void pixels(int64_t image, int64_t t, int64_t q, Range rows, Range columns, int64_t k, int64_t n) const {
    constexpr int L = Vec<T>::lanes;
    Vec<T> sum[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sum[p] = zero<T>();
    const int64_t step = u.source_step * c;
    for (int64_t i = rows.first; i < rows.last; ++i) {
      for (int64_t j = columns.first; j < columns.last; ++j) {
        const T* from = source(image, t, i, q, j) + k;
        const T* filter = tap(i, j) + k;
        const Vec<T> f = n >= L ? load(filter) : load_n(filter, n);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
          sum[p] = fma(n >= L ? load(from + p * step) : load_n(from + p * step, n), f, sum[p]);
      }
    }
    T* to =
        y + ((image * out_h + v.out_begin + t * v.out_step) * out_w + u.out_begin + q * u.out_step) * c + k;
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      Vec<T> r = sum[p];
      if (bias) r = r + (n >= L ? load(bias + k) : load_n(bias + k, n));
      if (relu) r = max(zero<T>(), r);
      if (n >= L)
        store(to + p * u.out_step * c, r);
      else
        store_n(to + p * u.out_step * c, r, n);
    }
  }

  void row(int64_t image, int64_t t) const {
    const Range rows = taps_inside(v, t, h);
    for (int64_t q = 0; q < u.outs;) {
      const Range columns = taps_inside(u, q, w);
      const Range ahead = q + 3 < u.outs ? taps_inside(u, q + 3, w) : Range{-1, -1};
      const bool four = ahead.first == columns.first && ahead.last == columns.last;
      for (int64_t k = 0; k < c; k += Vec<T>::lanes) {
        if (four)
          pixels<4>(image, t, q, rows, columns, k, c - k);
        else
          pixels<1>(image, t, q, rows, columns, k, c - k);
      }
      q += four ? 4 : 1;
    }
  }
};

int one_phase(const int64_t*) { return 1; }
int64_t none(const int64_t*) { return 0; }

// Rows of a task, `rows` in all images.
int64_t task_rows(const ConvShape& s, int64_t rows) {
  if (conv_flops(s) <= kSmallFlops / 4) return max_of(rows, 1);
  return max_of(kTaskFlops * rows / max_of(conv_flops(s), 1), 1);
}

int64_t forward_tasks(const int64_t* p, int) {
  const ConvShape& s = conv_shape(p);
  return ceil_div(s.n * s.oh, task_rows(s, s.n * s.oh));
}

template <class T>
void forward_run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const ChannelSweep<T> sweep{forward_axis(s.oh, s.kh, s.sh, s.dh, s.pt),
                              forward_axis(s.ow, s.kw, s.sw, s.dw, s.pl),
                              s.h,
                              s.w,
                              s.c,
                              s.kw,
                              s.oh,
                              s.ow,
                              static_cast<const T*>(t.a[0]),
                              static_cast<const T*>(t.a[1]),
                              static_cast<const T*>(t.a[2]),
                              static_cast<T*>(t.a[3]),
                              s.relu};
  const int64_t rows = s.n * s.oh, each = task_rows(s, rows);
  for (int64_t r = t.index * each; r < min_of((t.index + 1) * each, rows); ++r) sweep.row(r / s.oh, r % s.oh);
}

int64_t grad_tasks(const int64_t* p, int) {
  const ConvShape& s = conv_shape(p);
  return ceil_div(s.n * s.h, task_rows(s, s.n * s.h));
}

template <class T>
void grad_run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  ChannelSweep<T> sweep{{},
                        {},
                        s.oh,
                        s.ow,
                        s.c,
                        s.kw,
                        s.h,
                        s.w,
                        static_cast<const T*>(t.a[0]),
                        static_cast<const T*>(t.a[1]),
                        nullptr,
                        static_cast<T*>(t.a[2]),
                        0};
  const int64_t rows = s.n * s.h, each = task_rows(s, rows);
  for (int64_t r = t.index * each; r < min_of((t.index + 1) * each, rows); ++r) {
    const int64_t row = r % s.h;
    sweep.v = grad_axis(s.h, s.kh, s.sh, s.dh, s.pt, row % s.sh);
    for (int64_t residue = 0; residue < s.sw; ++residue) {
      sweep.u = grad_axis(s.w, s.kw, s.sw, s.dw, s.pl, residue);
      sweep.row(r / s.h, row / s.sh);
    }
  }
}

// ---------------------------------------------------------------- weights: chunks of rows, added in order in
// phase 1
int64_t weight_chunks(const ConvShape& s) {
  return max_of(min_of(min_of(conv_flops(s) / kTaskFlops, 32), s.n * s.oh), 1);
}
int64_t weight_size(const ConvShape& s) { return s.kh * s.kw * s.c; }
int weight_phases(const int64_t* p) { return weight_chunks(conv_shape(p)) > 1 ? 2 : 1; }
int64_t weight_tasks(const int64_t* p, int phase) { return phase == 0 ? weight_chunks(conv_shape(p)) : 1; }
template <class T>
int64_t weight_workspace(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  return weight_chunks(s) * weight_size(s) * static_cast<int64_t>(sizeof(T));
}

template <class T>
void weight_run(const Task& t) {
  constexpr int L = Vec<T>::lanes;
  const ConvShape& s = conv_shape(t.p);
  const int64_t chunks = weight_chunks(s), size = weight_size(s);
  const T* x = static_cast<const T*>(t.a[0]);
  const T* dy = static_cast<const T*>(t.a[1]);
  T* dw = static_cast<T*>(t.a[2]);
  T* partial = static_cast<T*>(t.workspace);
  if (t.phase == 1) {
    for (int64_t i = 0; i < size; i += L) {
      Vec<T> sum = load_n(partial + i, size - i);
      for (int64_t k = 1; k < chunks; ++k) sum = sum + load_n(partial + k * size + i, size - i);
      store_n(dw + i, sum, size - i);
    }
    return;
  }
  if (chunks > 1) dw = partial + t.index * size;
  for (int64_t i = 0; i < size; i += L) store_n(dw + i, zero<T>(), size - i);
  const Axis v = forward_axis(s.oh, s.kh, s.sh, s.dh, s.pt);
  const int64_t rows = s.n * s.oh;
  for (int64_t r = rows * t.index / chunks; r < rows * (t.index + 1) / chunks; ++r) {
    const int64_t image = r / s.oh, p = r % s.oh;
    const Range inside = taps_inside(v, p, s.h);
    for (int64_t i = inside.first; i < inside.last; ++i) {
      const T* x_row = x + (image * s.h + p * s.sh - s.pt + i * s.dh) * s.w * s.c;
      for (int64_t j = 0; j < s.kw; ++j) {
        const int64_t shift = j * s.dw - s.pl;  // column of x: q * sw + shift
        const int64_t lo = shift < 0 ? ceil_div(-shift, s.sw) : 0;
        const int64_t hi = shift < s.w ? min_of(ceil_div(s.w - shift, s.sw), s.ow) : 0;
        for (int64_t k = 0; k < s.c; k += L) {
          const int64_t n = s.c - k;
          Vec<T> sum[4] = {zero<T>(), zero<T>(), zero<T>(), zero<T>()};
          const T* a = x_row + shift * s.c + k;
          const T* b = dy + r * s.ow * s.c + k;
          const auto add = [&](int64_t q, int at) {
            const T* from = a + q * s.sw * s.c;
            const T* with = b + q * s.c;
            sum[at] = n >= L ? fma(load(from), load(with), sum[at])
                             : fma(load_n(from, n), load_n(with, n), sum[at]);
          };
          int64_t q = lo;
          for (; q + 4 <= hi; q += 4) {
            add(q, 0);
            add(q + 1, 1);
            add(q + 2, 2);
            add(q + 3, 3);
          }
          for (; q < hi; ++q) add(q, 0);
          T* out = dw + (i * s.kw + j) * s.c + k;
          store_n(out, load_n(out, n) + ((sum[0] + sum[1]) + (sum[2] + sum[3])), n);
        }
      }
    }
  }
}

}  // namespace

#define PARTS(T)                                                                    \
  template <>                                                                       \
  ConvPart depthwise_forward_part<T>() {                                            \
    return {one_phase, forward_tasks, none, none, forward_run<T>};                  \
  }                                                                                 \
  template <>                                                                       \
  ConvPart depthwise_grad_input_part<T>() {                                         \
    return {one_phase, grad_tasks, none, none, grad_run<T>};                        \
  }                                                                                 \
  template <>                                                                       \
  ConvPart depthwise_grad_weight_part<T>() {                                        \
    return {weight_phases, weight_tasks, weight_workspace<T>, none, weight_run<T>}; \
  }
PARTS(float)
PARTS(double)

}  // namespace cnnmath::CNNMATH_ISA
