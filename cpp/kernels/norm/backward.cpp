// Batch normalisation: gradients. See norm.h.
#include "kernels/norm/norm.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

template <class T>
struct Arguments {
  const T *dy, *x, *weight, *bias, *mean, *invstd, *var;
  const void* eps;
  const T* y;
  T *dx, *dweight, *dbias, *dz;
  explicit Arguments(const Task& t)
      : dy(static_cast<const T*>(t.a[0])),
        x(static_cast<const T*>(t.a[1])),
        weight(static_cast<const T*>(t.a[2])),
        bias(static_cast<const T*>(t.a[3])),
        mean(static_cast<const T*>(t.a[4])),
        invstd(static_cast<const T*>(t.a[5])),
        var(static_cast<const T*>(t.a[6])),
        eps(t.a[7]),
        y(static_cast<const T*>(t.a[8])),
        dx(static_cast<T*>(t.a[9])),
        dweight(static_cast<T*>(t.a[10])),
        dbias(static_cast<T*>(t.a[11])),
        dz(static_cast<T*>(t.a[12])) {}
};

// The ReLU behind the normalisation: there is none; y tells where it let through; or y is computed anew.
enum class Gate { none, read, computed };

// What reaches the normalisation at o through the ReLU.
template <class T, bool Whole, Gate G>
CNNMATH_INLINE Vec<T> arriving(const T* dy, const T* x, const T* y, const Affine<T>& a, int64_t o,
                               int64_t m) {
  const Vec<T> g = take<T, Whole>(dy + o, m);
  if constexpr (G == Gate::none) return g;
  const Vec<T> passed = G == Gate::read ? take<T, Whole>(y + o, m) : a.of(take<T, Whole>(x + o, m));
  return select(le(passed, zero<T>()), zero<T>(), g);
}

// sum(dz) and sum(dz * (x - mean)) over rows, V vectors of channels, R sums side by side; blocks of rows
// first, so that rounding errors grow with the number of blocks instead of rows. dz is written where it is
// wanted.
template <class T, int V, int R, bool Whole, Gate G>
CNNMATH_INLINE void sums(const Arguments<T>& args, int64_t first, int64_t k, int64_t rows, int64_t c,
                         T* sum_z, T* sum_zx, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  constexpr int64_t kBlock = 64;
  const auto at = [&](auto* p) { return p ? p + first * c + k : p; };
  const T *const dy = at(args.dy), *const x = at(args.x), *const y = at(args.y);
  T* const dz = at(args.dz);
  Affine<T> affine[V];
  Vec<T> all_z[V], all_zx[V];
  for (int b = 0; b < V; ++b) {
    affine[b].mean = take<T, Whole>(args.mean + k + b * L, m);
    if constexpr (G == Gate::computed) {
      affine[b].scale = take<T, Whole>(args.invstd + k + b * L, m);
      if (args.weight) affine[b].scale = affine[b].scale * take<T, Whole>(args.weight + k + b * L, m);
      affine[b].shift = args.bias ? take<T, Whole>(args.bias + k + b * L, m) : zero<T>();
    }
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
        const Vec<T> g = arriving<T, Whole, G>(dy, x, y, affine[b], o, m);
        if (dz) put<T, Whole>(dz + o, g, m);
        z[a][b] = z[a][b] + g;
        if (x) zx[a][b] = fma(g, take<T, Whole>(x + o, m) - affine[b].mean, zx[a][b]);
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

template <class T, Gate G>
void chunk_sums(const Arguments<T>& a, int64_t first, int64_t rows, int64_t c, T* sum_z, T* sum_zx) {
  constexpr int64_t L = Vec<T>::lanes;
  constexpr int V = kTile / 2;
  int64_t k = 0;
  for (; k + V * L <= c; k += V * L)
    sums<T, V, 4 / kTile, true, G>(a, first, k, rows, c, sum_z + k, sum_zx + k, L);
  for (; k + L <= c; k += L) sums<T, 1, 2, true, G>(a, first, k, rows, c, sum_z + k, sum_zx + k, L);
  if (k < c) sums<T, 1, 2, false, G>(a, first, k, rows, c, sum_z + k, sum_zx + k, c - k);
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

template <class T, int V, bool Whole, Gate G, bool Train>
CNNMATH_INLINE void apply_tile(const T* dy, const T* x, const T* y, T* dx, int64_t rows, int64_t c,
                               const T* coef, const T* bias, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  Affine<T> affine[V];
  Vec<T> slope[V], offset[V];
  for (int b = 0; b < V; ++b) {
    affine[b] = {take<T, Whole>(coef + b * L, m), take<T, Whole>(coef + c + b * L, m),
                 bias ? take<T, Whole>(bias + b * L, m) : zero<T>()};
    slope[b] = take<T, Whole>(coef + 2 * c + b * L, m);
    offset[b] = take<T, Whole>(coef + 3 * c + b * L, m);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int b = 0; b < V; ++b) {
      const int64_t o = r * c + b * L;
      const Vec<T> g = arriving<T, Whole, G>(dy, x, y, affine[b], o, m);
      const Vec<T> gain = affine[b].scale;
      Vec<T> v = gain * g;
      if constexpr (Train)
        v = fma(gain, g, fma(take<T, Whole>(x + o, m) - affine[b].mean, slope[b], offset[b]));
      put<T, Whole>(dx + o, v, m);
    }
  }
}

template <class T, Gate G, bool Train>
void apply_rows(const T* dy, const T* x, const T* y, T* dx, int64_t rows, int64_t c, const T* coef,
                const T* bias) {
  constexpr int64_t L = Vec<T>::lanes;
  constexpr int V = kTile / 2;
  const int64_t step = most(4096 / most(c, 1), 1) * 2;
  for (int64_t r = 0; r < rows; r += step) {
    const int64_t n = least(step, rows - r);
    const auto at = [&](auto* p, int64_t k) { return p ? p + r * c + k : p; };
    const auto tile = [&]<int Vectors, bool Whole>(int64_t k) __attribute__((always_inline)) {
      apply_tile<T, Vectors, Whole, G, Train>(at(dy, k), at(x, k), at(y, k), at(dx, k), n, c, coef + k,
                                              bias ? bias + k : bias, c - k);
    };
    int64_t k = 0;
    for (; k + V * L <= c; k += V * L) tile.template operator()<V, true>(k);
    for (; k + L <= c; k += L) tile.template operator()<1, true>(k);
    if (k < c) tile.template operator()<1, false>(k);
  }
}

template <class T, bool Train>
void apply(const NormBackwardShape& s, const Arguments<T>& a, int64_t index, const T* coef) {
  const Chunks chunks = map_chunks(s.rows, s.c);
  const int64_t r = index * chunks.rows, n = least(chunks.rows, s.rows - r);
  if (n <= 0 || a.dx == nullptr) return;
  const auto at = [&](auto* p) { return p ? p + r * s.c : p; };
  // dz, where it was written, already went through the ReLU
  const T* dy = a.dz ? a.dz : a.dy;
  const auto rows = [&]<Gate G>() {
    apply_rows<T, G, Train>(at(dy), at(a.x), at(a.y), at(a.dx), n, s.c, coef, a.bias);
  };
  if (!s.relu || a.dz)
    rows.template operator()<Gate::none>();
  else if (a.y)
    rows.template operator()<Gate::read>();
  else if constexpr (Train)
    rows.template operator()<Gate::computed>();
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
    if (!s.relu)
      chunk_sums<T, Gate::none>(a, r, n, s.c, part, part + s.c);
    else if (a.y)
      chunk_sums<T, Gate::read>(a, r, n, s.c, part, part + s.c);
    else
      chunk_sums<T, Gate::computed>(a, r, n, s.c, part, part + s.c);
  }
  if (small) {
    for (int64_t g = 0; g < groups(s.c); ++g) combine(s, a, g, parts, coef);
  } else if (t.phase == 1) {
    combine(s, a, t.index, parts, coef);
  }
  if (small || t.phase == 2)
    s.training ? apply<T, true>(s, a, t.index, coef) : apply<T, false>(s, a, t.index, coef);
}

template void batch_norm_backward<float>(const Task&);
template void batch_norm_backward<double>(const Task&);

}  // namespace cnnmath::CNNMATH_ISA
