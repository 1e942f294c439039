// Batch normalisation: gradients. See norm.h.
#include "kernels/norm/norm.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

template <class T>
struct Arguments {
  const T *dy, *x, *weight, *mean, *invstd, *var;
  const void* eps;
  const T* y;
  T *dx, *dweight, *dbias, *dz;
  explicit Arguments(const Task& t)
      : dy(static_cast<const T*>(t.a[0])),
        x(static_cast<const T*>(t.a[1])),
        weight(static_cast<const T*>(t.a[2])),
        mean(static_cast<const T*>(t.a[3])),
        invstd(static_cast<const T*>(t.a[4])),
        var(static_cast<const T*>(t.a[5])),
        eps(t.a[6]),
        y(static_cast<const T*>(t.a[7])),
        dx(static_cast<T*>(t.a[8])),
        dweight(static_cast<T*>(t.a[9])),
        dbias(static_cast<T*>(t.a[10])),
        dz(static_cast<T*>(t.a[11])) {}
};

// What reaches the normalisation through the ReLU.
template <class T, bool Whole, bool Relu>
CNNMATH_INLINE Vec<T> arriving(const T* dy, const T* y, int64_t o, int64_t m) {
  const Vec<T> g = take<T, Whole>(dy + o, m);
  if constexpr (Relu)
    return select(le(take<T, Whole>(y + o, m), zero<T>()), zero<T>(), g);
  else
    return g;
}

// sum(dz) and sum(dz * (x - mean)) over rows, V vectors of channels, R sums side by side; blocks of rows
// first, so that rounding errors grow with the number of blocks instead of rows. dz is written where it is
// wanted.
template <class T, int V, int R, bool Whole, bool Relu>
CNNMATH_INLINE void sums(const T* dy, const T* x, const T* y, T* dz, const T* mean, int64_t rows, int64_t c,
                         T* sum_z, T* sum_zx, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  constexpr int64_t kBlock = 64;
  Vec<T> mu[V], all_z[V], all_zx[V];
  for (int b = 0; b < V; ++b) {
    mu[b] = take<T, Whole>(mean + b * L, m);
    all_z[b] = all_zx[b] = zero<T>();
  }
  for (int64_t done = 0; done < rows; done += kBlock) {
    const int64_t end = least(done + kBlock, rows);
    Vec<T> z[R][V], zx[R][V];
    for (int a = 0; a < R; ++a)
      for (int b = 0; b < V; ++b) z[a][b] = zx[a][b] = zero<T>();
    const auto row = [&](int64_t r, int a) __attribute__((always_inline)) {
      for (int b = 0; b < V; ++b) {
        const int64_t o = r * c + b * L;
        const Vec<T> g = arriving<T, Whole, Relu>(dy, y, o, m);
        if (dz) put<T, Whole>(dz + o, g, m);
        z[a][b] = z[a][b] + g;
        if (x) zx[a][b] = fma(g, take<T, Whole>(x + o, m) - mu[b], zx[a][b]);
      }
    };
    int64_t r = done;
    for (; r + R <= end; r += R)
      for (int a = 0; a < R; ++a) row(r + a, a);
    for (; r < end; ++r) row(r, 0);
    for (int b = 0; b < V; ++b) {
      for (int a = 1; a < R; ++a) {
        z[0][b] = z[0][b] + z[a][b];
        zx[0][b] = zx[0][b] + zx[a][b];
      }
      all_z[b] = all_z[b] + z[0][b];
      all_zx[b] = all_zx[b] + zx[0][b];
    }
  }
  for (int b = 0; b < V; ++b) {
    put<T, Whole>(sum_z + b * L, all_z[b], m);
    put<T, Whole>(sum_zx + b * L, all_zx[b], m);
  }
}

template <class T, bool Relu>
void chunk_sums(const Arguments<T>& a, int64_t first, int64_t rows, int64_t c, T* sum_z, T* sum_zx) {
  constexpr int64_t L = Vec<T>::lanes;
  constexpr int V = kTile / 2;
  const auto at = [&](auto* p, int64_t k) { return p ? p + first * c + k : p; };
  int64_t k = 0;
  for (; k + V * L <= c; k += V * L)
    sums<T, V, 4 / kTile, true, Relu>(at(a.dy, k), at(a.x, k), at(a.y, k), at(a.dz, k), a.mean + k, rows, c,
                                      sum_z + k, sum_zx + k, L);
  for (; k + L <= c; k += L)
    sums<T, 1, 2, true, Relu>(at(a.dy, k), at(a.x, k), at(a.y, k), at(a.dz, k), a.mean + k, rows, c,
                              sum_z + k, sum_zx + k, L);
  if (k < c)
    sums<T, 1, 2, false, Relu>(at(a.dy, k), at(a.x, k), at(a.y, k), at(a.dz, k), a.mean + k, rows, c,
                               sum_z + k, sum_zx + k, c - k);
}

// Adds the chunks of a group of channels in order and gives dweight, dbias and the coefficients of
// dx = gain * dz + (x - mean) * slope + offset.
template <class T>
void combine(const NormBackwardShape& s, const Arguments<T>& a, int64_t group, const T* parts, T* coef) {
  const Chunks chunks = sum_chunks(s.rows, s.c);
  const int64_t k0 = group * kGroup, n = least(kGroup, s.c - k0);
  double z[kGroup] = {}, zx[kGroup] = {};
  for (int64_t b = 0; s.sums && b < chunks.count; ++b) {
    const T *pz = parts + b * 2 * s.c + k0, *pzx = pz + s.c;
    for (int64_t i = 0; i < n; ++i) {
      z[i] += static_cast<double>(pz[i]);
      zx[i] += static_cast<double>(pzx[i]);
    }
  }
  const double rows = static_cast<double>(most(s.rows, 1));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t k = k0 + i;
    const double invstd = s.training ? static_cast<double>(a.invstd[k])
                                     : 1.0 / root(static_cast<double>(a.var[k]) + norm_cell(a.eps));
    const double gain = a.weight ? invstd * static_cast<double>(a.weight[k]) : invstd;
    if (a.dweight) a.dweight[k] = static_cast<T>(zx[i] * invstd);
    if (a.dbias) a.dbias[k] = static_cast<T>(z[i]);
    coef[k] = a.mean[k];
    coef[s.c + k] = static_cast<T>(gain);
    coef[2 * s.c + k] = static_cast<T>(-gain * invstd * invstd * zx[i] / rows);
    coef[3 * s.c + k] = static_cast<T>(-gain * z[i] / rows);
  }
}

template <class T, int V, bool Whole, bool Relu, bool Train>
CNNMATH_INLINE void apply_tile(const T* dy, const T* x, const T* y, T* dx, int64_t rows, int64_t c,
                               const T* coef, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> mean[V], gain[V], slope[V], offset[V];
  for (int b = 0; b < V; ++b) {
    mean[b] = take<T, Whole>(coef + b * L, m);
    gain[b] = take<T, Whole>(coef + c + b * L, m);
    slope[b] = take<T, Whole>(coef + 2 * c + b * L, m);
    offset[b] = take<T, Whole>(coef + 3 * c + b * L, m);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int b = 0; b < V; ++b) {
      const int64_t o = r * c + b * L;
      const Vec<T> g = arriving<T, Whole, Relu>(dy, y, o, m);
      Vec<T> v = gain[b] * g;
      if constexpr (Train) v = fma(gain[b], g, fma(take<T, Whole>(x + o, m) - mean[b], slope[b], offset[b]));
      put<T, Whole>(dx + o, v, m);
    }
  }
}

template <class T, bool Relu, bool Train>
void apply_rows(const T* dy, const T* x, const T* y, T* dx, int64_t rows, int64_t c, const T* coef) {
  constexpr int64_t L = Vec<T>::lanes;
  constexpr int V = kTile / 2;
  const int64_t step = most(4096 / most(c, 1), 1) * 2;
  for (int64_t r = 0; r < rows; r += step) {
    const int64_t n = least(step, rows - r);
    const auto at = [&](auto* p, int64_t k) { return p ? p + r * c + k : p; };
    int64_t k = 0;
    for (; k + V * L <= c; k += V * L)
      apply_tile<T, V, true, Relu, Train>(at(dy, k), at(x, k), at(y, k), at(dx, k), n, c, coef + k, L);
    for (; k + L <= c; k += L)
      apply_tile<T, 1, true, Relu, Train>(at(dy, k), at(x, k), at(y, k), at(dx, k), n, c, coef + k, L);
    if (k < c)
      apply_tile<T, 1, false, Relu, Train>(at(dy, k), at(x, k), at(y, k), at(dx, k), n, c, coef + k, c - k);
  }
}

template <class T>
void apply(const NormBackwardShape& s, const Arguments<T>& a, int64_t index, const T* coef) {
  const Chunks chunks = map_chunks(s.rows, s.c);
  const int64_t r = index * chunks.rows, n = least(chunks.rows, s.rows - r);
  if (n <= 0 || a.dx == nullptr) return;
  const auto at = [&](auto* p) { return p ? p + r * s.c : p; };
  // dz, where it was written, already went through the ReLU
  const T* dy = a.dz ? a.dz : a.dy;
  const bool relu = s.relu && !a.dz;
  if (relu && s.training)
    apply_rows<T, true, true>(at(dy), at(a.x), at(a.y), at(a.dx), n, s.c, coef);
  else if (relu)
    apply_rows<T, true, false>(at(dy), at(a.x), at(a.y), at(a.dx), n, s.c, coef);
  else if (s.training)
    apply_rows<T, false, true>(at(dy), at(a.x), at(a.y), at(a.dx), n, s.c, coef);
  else
    apply_rows<T, false, false>(at(dy), at(a.x), at(a.y), at(a.dx), n, s.c, coef);
}

}  // namespace

// Workspace: coefficients (4 c), then both sums of every chunk (2 c each).
template <class T>
void batch_norm_backward(const Task& t) {
  const NormBackwardShape& s = *reinterpret_cast<const NormBackwardShape*>(t.p);
  const Arguments<T> a(t);
  T* coef = static_cast<T*>(t.workspace);
  T* parts = coef + 4 * s.c;
  const bool small = norm_small(s.rows, s.c);
  const Chunks chunks = sum_chunks(s.rows, s.c);
  if ((small || t.phase == 0) && s.sums && chunks.count > 0) {
    const int64_t r = t.index * chunks.rows, n = least(chunks.rows, s.rows - r);
    T* part = parts + t.index * 2 * s.c;
    if (s.relu)
      chunk_sums<T, true>(a, r, n, s.c, part, part + s.c);
    else
      chunk_sums<T, false>(a, r, n, s.c, part, part + s.c);
  }
  if (small) {
    for (int64_t g = 0; g < groups(s.c); ++g) combine(s, a, g, parts, coef);
  } else if (t.phase == 1) {
    combine(s, a, t.index, parts, coef);
  }
  if (small || t.phase == 2) apply(s, a, t.index, coef);
}

template void batch_norm_backward<float>(const Task&);
template void batch_norm_backward<double>(const Task&);

}  // namespace cnnmath::CNNMATH_ISA
