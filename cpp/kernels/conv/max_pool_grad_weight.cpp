// The gradient of the weights of a first layer with a max-pool of 2x2 windows behind it. Of four pixels of the convolution's output
// only one has a gradient, so each number of dy adds its multiple of one patch of x:
//
//   dw[i,j,k,o] = sum over n,p,q of dy[n,p,q,o] x[n, 2p + a - pt + i, 2q + b - pl + j, k]      with (a, b) the place in its window
//
// Few channels: the kw*c numbers of a patch's row are one or two vectors, and the sums of a channel o stay in registers while all
// its dy of an image pass. Images go to chunks, whose sums are added in order.
#include "kernels/conv/parts.h"
#include "kernels/tile/pack.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kMostChunks = 16;
constexpr int kMostRows = 5;  // of a patch, in registers

template <class T>
struct Plan {
  int64_t ph, pw;          // of dy
  int64_t images, chunks;  // images of a chunk
  int64_t rows, row;       // of the padded copy of x: how many, the numbers in each
  int64_t run, width;      // numbers of a patch's row, in whole vectors
  int64_t sums(const ConvShape& s) const { return s.oc * s.kh * width; }
};

template <class T>
Plan<T> plan(const ConvShape& s) {
  constexpr int64_t L = Vec<T>::lanes;
  Plan<T> f{};
  f.ph = s.oh / 2, f.pw = s.ow / 2;
  f.images = max_of(ceil_div(s.n, kMostChunks), 1);
  f.chunks = max_of(ceil_div(s.n, f.images), 1);
  f.run = s.kw * s.c;
  f.width = round_up(f.run, L);
  f.rows = 2 * f.ph + s.kh - 1;
  f.row = (2 * f.pw + s.kw - 1) * s.c;
  return f;
}

int phases(const int64_t*) { return 2; }

template <class T>
int64_t tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  return phase == 0 && conv_flops(s) > kSmallFlops ? plan<T>(s).chunks : 1;
}

template <class T>
int64_t workspace(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  const Plan<T> f = plan<T>(s);
  return round_up(f.chunks * f.sums(s) * static_cast<int64_t>(sizeof(T)), 64);
}

// Vectors read beyond the end of the last row.
template <class T>
int64_t scratch(const int64_t* p) {
  const Plan<T> f = plan<T>(conv_shape(p));
  return (f.rows * f.row + f.width) * static_cast<int64_t>(sizeof(T));
}

template <class T>
void copy_padded(const ConvShape& s, const Plan<T>& f, const T* image, T* out) {
  const int64_t left = min_of(s.pl * s.c, f.row), inside = max_of(min_of(s.w * s.c, f.row - left), 0);
  for (int64_t r = 0; r < f.rows; ++r, out += f.row) {
    const int64_t h = r - s.pt;
    if (h < 0 || h >= s.h) {
      zero_run(out, f.row);
      continue;
    }
    zero_run(out, left);
    copy_run(out + left, image + h * s.w * s.c, inside);
    zero_run(out + left + inside, f.row - left - inside);
  }
  zero_run(out, f.width);
}

template <class T, int R>
CNNMATH_INLINE void add_patch(Vec<T> (&sums)[R], const T* patch, int64_t row, Vec<T> g) {
#pragma GCC unroll 5
  for (int i = 0; i < R; ++i) fma_to(sums[i], g, load(patch + i * row));
}

// R rows of a vector of the patches of channel o. Pixels by turns, as a sum waits for its last addition.
template <class T, int R>
void add_patches(const ConvShape& s, const Plan<T>& f, const T* x, const T* dy, const uint8_t* code,
                 T* sums) {
  const int64_t at[4] = {0, s.c, f.row, f.row + s.c};
  Vec<T> even[R], odd[R];
#pragma GCC unroll 5
  for (int i = 0; i < R; ++i) even[i] = load(sums + i * f.width), odd[i] = zero<T>();
  const int64_t row = f.row, pixel = 2 * s.c, oc = s.oc, pw = f.pw, ph = f.ph;
  for (int64_t p = 0; p < ph; ++p, x += 2 * row) {
    const T* corner = x;
    int64_t q = 0;
    for (; q + 2 <= pw; q += 2, corner += 2 * pixel, dy += 2 * oc, code += 2 * oc) {
      add_patch<T, R>(even, corner + at[code[0] & 3], row, broadcast(dy));
      add_patch<T, R>(odd, corner + pixel + at[code[oc] & 3], row, broadcast(dy + oc));
    }
    if (q < pw) {
      add_patch<T, R>(even, corner + at[code[0] & 3], row, broadcast(dy));
      dy += oc, code += oc;
    }
  }
#pragma GCC unroll 5
  for (int i = 0; i < R; ++i) store(sums + i * f.width, even[i] + odd[i]);
}

template <class T>
using AddPatches = void (*)(const ConvShape& s, const Plan<T>& f, const T* x, const T* dy,
                            const uint8_t* code, T* sums);

template <class T>
void sum_chunk(const ConvShape& s, const Plan<T>& f, const T* x, const T* dy, const uint8_t* code, T* sums,
               T* copy, int64_t chunk) {
  constexpr AddPatches<T> add[kMostRows] = {add_patches<T, 1>, add_patches<T, 2>, add_patches<T, 3>,
                                            add_patches<T, 4>, add_patches<T, 5>};
  zero_run(sums, f.sums(s));
  for (int64_t n = chunk * f.images; n < min_of((chunk + 1) * f.images, s.n); ++n) {
    copy_padded(s, f, x + n * s.h * s.w * s.c, copy);
    const int64_t map = n * f.ph * f.pw * s.oc;
    for (int64_t o = 0; o < s.oc; ++o) {
      for (int64_t i = 0; i < s.kh; i += kMostRows) {
        const int64_t rows = min_of(s.kh - i, kMostRows);
        for (int64_t v = 0; v < f.width; v += Vec<T>::lanes)
          add[rows - 1](s, f, copy + i * f.row + v, dy + map + o, code + map + o,
                        sums + (o * s.kh + i) * f.width + v);
      }
    }
  }
}

template <class T>
void add_chunks(const ConvShape& s, const Plan<T>& f, const T* sums, T* dw) {
  for (int64_t o = 0; o < s.oc; ++o) {
    for (int64_t i = 0; i < s.kh; ++i) {
      for (int64_t k = 0; k < f.run; ++k) {
        T sum = 0;
        for (int64_t chunk = 0; chunk < f.chunks; ++chunk)
          sum += sums[chunk * f.sums(s) + (o * s.kh + i) * f.width + k];
        dw[(i * f.run + k) * s.oc + o] = sum;
      }
    }
  }
}

template <class T>
void run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const Plan<T> f = plan<T>(s);
  T* sums = static_cast<T*>(t.workspace);
  if (t.phase == 1) return add_chunks(s, f, sums, static_cast<T*>(t.a[3]));
  const bool small = conv_flops(s) <= kSmallFlops;
  for (int64_t i = small ? 0 : t.index; i < (small ? f.chunks : t.index + 1); ++i)
    sum_chunk(s, f, static_cast<const T*>(t.a[0]), static_cast<const T*>(t.a[1]),
              static_cast<const uint8_t*>(t.a[2]), sums + i * f.sums(s), static_cast<T*>(t.scratch), i);
}

}  // namespace

#define PARTS(T)                                                 \
  template <>                                                    \
  ConvPart max_pool_grad_weight_part<T>() {                      \
    return {phases, tasks<T>, workspace<T>, scratch<T>, run<T>}; \
  }
PARTS(float)
PARTS(double)

}  // namespace cnnmath::CNNMATH_ISA
