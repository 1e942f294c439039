// Batch normalisation: statistics, normalisation. See norm.h.
#include "kernels/norm/norm.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

// Mean and sum of squared differences (m2) of `rows` rows, V vectors of channels. R sums go side by side, so
// that additions do not wait for each other.
template <class T, int V, int R, bool Whole>
CNNMATH_INLINE void statistics(const T* x, int64_t rows, int64_t c, T* mean, T* m2, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  constexpr int64_t kBlock = 64;
  Vec<T> all_mean[V], all_m2[V];
  for (int b = 0; b < V; ++b) all_mean[b] = all_m2[b] = zero<T>();
  for (int64_t done = 0; done < rows; done += kBlock) {
    const int64_t n = least(kBlock, rows - done);
    const T* block = x + done * c;
    Vec<T> sum[R][V];
    for (int a = 0; a < R; ++a)
      for (int b = 0; b < V; ++b) sum[a][b] = zero<T>();
    int64_t r = 0;
    for (; r + R <= n; r += R)
      for (int a = 0; a < R; ++a)
        for (int b = 0; b < V; ++b) sum[a][b] = sum[a][b] + take<T, Whole>(block + (r + a) * c + b * L, m);
    for (; r < n; ++r)
      for (int b = 0; b < V; ++b) sum[0][b] = sum[0][b] + take<T, Whole>(block + r * c + b * L, m);
    Vec<T> mu[V];
    const Vec<T> count = set1<T>(static_cast<T>(n));
    for (int b = 0; b < V; ++b) {
      mu[b] = sum[0][b];
      for (int a = 1; a < R; ++a) mu[b] = mu[b] + sum[a][b];
      mu[b] = mu[b] / count;
    }
    for (int a = 0; a < R; ++a)
      for (int b = 0; b < V; ++b) sum[a][b] = zero<T>();
    r = 0;
    for (; r + R <= n; r += R) {
      for (int a = 0; a < R; ++a) {
        for (int b = 0; b < V; ++b) {
          const Vec<T> d = take<T, Whole>(block + (r + a) * c + b * L, m) - mu[b];
          sum[a][b] = fma(d, d, sum[a][b]);
        }
      }
    }
    for (; r < n; ++r) {
      for (int b = 0; b < V; ++b) {
        const Vec<T> d = take<T, Whole>(block + r * c + b * L, m) - mu[b];
        sum[0][b] = fma(d, d, sum[0][b]);
      }
    }
    // Chan: two groups of na and nb rows whose means lie delta apart
    const double na = static_cast<double>(done), nb = static_cast<double>(n);
    const Vec<T> share = set1<T>(static_cast<T>(nb / (na + nb)));
    const Vec<T> spread = set1<T>(static_cast<T>(na * nb / (na + nb)));
    for (int b = 0; b < V; ++b) {
      Vec<T> s = sum[0][b];
      for (int a = 1; a < R; ++a) s = s + sum[a][b];
      const Vec<T> delta = mu[b] - all_mean[b];
      all_mean[b] = fma(delta, share, all_mean[b]);
      all_m2[b] = all_m2[b] + fma(delta * delta, spread, s);
    }
  }
  for (int b = 0; b < V; ++b) {
    put<T, Whole>(mean + b * L, all_mean[b], m);
    put<T, Whole>(m2 + b * L, all_m2[b], m);
  }
}

template <class T>
void chunk_statistics(const T* x, int64_t rows, int64_t c, T* mean, T* m2) {
  constexpr int64_t L = Vec<T>::lanes;
  int64_t k = 0;
  for (; k + kTile * L <= c; k += kTile * L)
    statistics<T, kTile, 4 / kTile, true>(x + k, rows, c, mean + k, m2 + k, L);
  for (; k + L <= c; k += L) statistics<T, 1, 4, true>(x + k, rows, c, mean + k, m2 + k, L);
  if (k < c) statistics<T, 1, 4, false>(x + k, rows, c, mean + k, m2 + k, c - k);
}

// y = (x - mean) * scale + shift for V vectors of channels; coefficients: mean, scale, shift, each c long.
template <class T, int V, bool Whole, bool Residual, bool Relu>
CNNMATH_INLINE void normalise_tile(const T* x, const T* residual, T* y, int64_t rows, int64_t c,
                                   const T* coef, int64_t m) {
  constexpr int L = Vec<T>::lanes;
  Affine<T> affine[V];
  for (int b = 0; b < V; ++b)
    affine[b] = {take<T, Whole>(coef + b * L, m), take<T, Whole>(coef + c + b * L, m),
                 take<T, Whole>(coef + 2 * c + b * L, m)};
  for (int64_t r = 0; r < rows; ++r) {
    for (int b = 0; b < V; ++b) {
      const int64_t o = r * c + b * L;
      Vec<T> v = affine[b].of(take<T, Whole>(x + o, m));
      if constexpr (Residual) v = v + take<T, Whole>(residual + o, m);
      if constexpr (Relu) v = max(zero<T>(), v);
      put<T, Whole>(y + o, v, m);
    }
  }
}

template <class T, bool Residual, bool Relu>
void normalise_rows(const T* x, const T* residual, T* y, int64_t rows, int64_t c, const T* coef) {
  constexpr int64_t L = Vec<T>::lanes;
  // Few rows at a time: they pass through the first cache once however many tiles of channels there are.
  const int64_t step = most(4096 / most(c, 1), 1) * 2;
  for (int64_t r = 0; r < rows; r += step) {
    const int64_t n = least(step, rows - r), o = r * c;
    const auto at = [&](int64_t k) { return Residual ? residual + o + k : residual; };
    int64_t k = 0;
    for (; k + kTile * L <= c; k += kTile * L)
      normalise_tile<T, kTile, true, Residual, Relu>(x + o + k, at(k), y + o + k, n, c, coef + k, L);
    for (; k + L <= c; k += L)
      normalise_tile<T, 1, true, Residual, Relu>(x + o + k, at(k), y + o + k, n, c, coef + k, L);
    if (k < c)
      normalise_tile<T, 1, false, Residual, Relu>(x + o + k, at(k), y + o + k, n, c, coef + k, c - k);
  }
}

template <class T>
void normalise(const NormShape& s, int64_t index, const T* x, const T* residual, T* y, const T* coef) {
  const Chunks chunks = map_chunks(s.rows, s.c);
  const int64_t r = index * chunks.rows, n = least(chunks.rows, s.rows - r), o = r * s.c;
  if (n <= 0) return;
  if (residual && s.relu)
    normalise_rows<T, true, true>(x + o, residual + o, y + o, n, s.c, coef);
  else if (residual)
    normalise_rows<T, true, false>(x + o, residual + o, y + o, n, s.c, coef);
  else if (s.relu)
    normalise_rows<T, false, true>(x + o, residual, y + o, n, s.c, coef);
  else
    normalise_rows<T, false, false>(x + o, residual, y + o, n, s.c, coef);
}

// Arguments of batch_norm.
template <class T>
struct Training {
  const T *x, *weight, *bias;
  T *running_mean, *running_var;
  const void *momentum, *eps;
  const T *residual, *known_mean, *known_m2;
  T *y, *mean, *invstd;
  T* coef;  // mean, scale, shift, each c long
  explicit Training(const Task& t)
      : x(static_cast<const T*>(t.a[0])),
        weight(static_cast<const T*>(t.a[1])),
        bias(static_cast<const T*>(t.a[2])),
        running_mean(static_cast<T*>(t.a[3])),
        running_var(static_cast<T*>(t.a[4])),
        momentum(t.a[5]),
        eps(t.a[6]),
        residual(static_cast<const T*>(t.a[7])),
        known_mean(static_cast<const T*>(t.a[8])),
        known_m2(static_cast<const T*>(t.a[9])),
        y(static_cast<T*>(t.a[10])),
        mean(static_cast<T*>(t.a[11])),
        invstd(static_cast<T*>(t.a[12])),
        coef(static_cast<T*>(t.a[13])) {}
};

// Merges the chunks of a group of channels; gives what the caller keeps and the coefficients of the last
// pass.
template <class T>
void combine(const NormShape& s, const Training<T>& a, int64_t group, const T* parts) {
  const Chunks chunks = sum_chunks(s.rows, s.c);
  const int64_t k0 = group * kGroup, n = least(kGroup, s.c - k0);
  Moments all[kGroup];
  for (int64_t i = 0; a.known_mean && i < n; ++i)
    all[i].merge(static_cast<double>(s.rows), static_cast<double>(a.known_mean[k0 + i]),
                 static_cast<double>(a.known_m2[k0 + i]));
  for (int64_t b = 0; !a.known_mean && b < chunks.count; ++b) {
    const double rows = static_cast<double>(least(chunks.rows, s.rows - b * chunks.rows));
    const T *mean = parts + b * 2 * s.c + k0, *m2 = mean + s.c;
    for (int64_t i = 0; i < n; ++i)
      all[i].merge(rows, static_cast<double>(mean[i]), static_cast<double>(m2[i]));
  }
  const double eps = norm_cell(a.eps), rows = static_cast<double>(most(s.rows, 1));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t k = k0 + i;
    const double invstd = 1.0 / root(all[i].m2 / rows + eps);
    a.mean[k] = static_cast<T>(all[i].mean);
    a.invstd[k] = static_cast<T>(invstd);
    a.coef[k] = a.mean[k];
    a.coef[s.c + k] = a.weight ? a.invstd[k] * a.weight[k] : a.invstd[k];  // as the backward pass has it
    a.coef[2 * s.c + k] = a.bias ? a.bias[k] : T{0};
  }
  if (s.rows == 0 || (a.running_mean == nullptr && a.running_var == nullptr)) return;
  const double momentum = norm_cell(a.momentum);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t k = k0 + i;
    const auto moved = [&](T old, double now) {
      return static_cast<T>((1.0 - momentum) * static_cast<double>(old) + momentum * now);
    };
    if (a.running_mean) a.running_mean[k] = moved(a.running_mean[k], all[i].mean);
    if (a.running_var) a.running_var[k] = moved(a.running_var[k], all[i].m2 / (rows - 1.0));
  }
}

}  // namespace

// Workspace: mean and m2 of every chunk (2 c each).
template <class T>
void batch_norm(const Task& t) {
  const NormShape& s = *reinterpret_cast<const NormShape*>(t.p);
  const Training<T> a(t);
  T* parts = static_cast<T*>(t.workspace);
  const bool small = norm_small(s.rows, s.c);
  const Chunks chunks = sum_chunks(s.rows, s.c);
  if ((small || t.phase == 0) && chunks.count > 0 && !a.known_mean) {
    const int64_t r = t.index * chunks.rows;
    T* part = parts + t.index * 2 * s.c;
    chunk_statistics(a.x + r * s.c, least(chunks.rows, s.rows - r), s.c, part, part + s.c);
  }
  if (small) {
    for (int64_t g = 0; g < groups(s.c); ++g) combine(s, a, g, parts);
  } else if (t.phase == 1) {
    combine(s, a, t.index, parts);
  }
  if (a.y && (small || t.phase == 2)) normalise(s, t.index, a.x, a.residual, a.y, a.coef);
}

// args: x mean var weight? bias? eps residual? y. Scratch: coefficients (3 c).
template <class T>
void batch_norm_eval(const Task& t) {
  const NormShape& s = *reinterpret_cast<const NormShape*>(t.p);
  const T *x = static_cast<const T*>(t.a[0]), *mean = static_cast<const T*>(t.a[1]),
          *var = static_cast<const T*>(t.a[2]), *weight = static_cast<const T*>(t.a[3]),
          *bias = static_cast<const T*>(t.a[4]), *residual = static_cast<const T*>(t.a[6]);
  const double eps = norm_cell(t.a[5]);
  T* coef = static_cast<T*>(t.scratch);
  for (int64_t k = 0; k < s.c; ++k) {
    const double invstd = 1.0 / root(static_cast<double>(var[k]) + eps);
    coef[k] = mean[k];
    coef[s.c + k] = static_cast<T>(weight ? invstd * static_cast<double>(weight[k]) : invstd);
    coef[2 * s.c + k] = bias ? bias[k] : T{0};
  }
  normalise(s, t.index, x, residual, static_cast<T*>(t.a[7]), coef);
}

template void batch_norm<float>(const Task&);
template void batch_norm<double>(const Task&);
template void batch_norm_eval<float>(const Task&);
template void batch_norm_eval<double>(const Task&);

}  // namespace cnnmath::CNNMATH_ISA
