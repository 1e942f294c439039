// Cross-entropy in three steps: the divisor (weights of the targets), the rows, the combination of their
// losses. Small calls do all three in one task; otherwise each is a phase.
#pragma once
#include "kernels/loss/loss.h"
#include "simd/math.h"
#include "simd/sums.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

enum Reduction : int64_t { kNone, kMean, kSum };

// What the steps hand on, in the workspace.
struct ChunkNote {  // of a chunk of targets
  double weight;    // sum of the weights of its targets
  int64_t errors, first_error;
};

template <class T>
struct CrossEntropy {
  static constexpr int64_t L = Vec<T>::lanes;
  const CrossEntropyFields& f;
  const T* x;
  const int64_t* index;  // targets: one of the two
  const T* probability;
  const T* weight;
  T smoothing;
  T *loss, *dx;
  int64_t* error;
  ChunkNote* notes;
  T* row_loss;  // of every row; the output itself where nothing is reduced

  explicit CrossEntropy(const Task& t) : f(*reinterpret_cast<const CrossEntropyFields*>(t.p)) {
    x = static_cast<const T*>(t.a[0]);
    index = f.probabilities ? nullptr : static_cast<const int64_t*>(t.a[1]);
    probability = f.probabilities ? static_cast<const T*>(t.a[1]) : nullptr;
    weight = static_cast<const T*>(t.a[2]);
    smoothing = t.a[3] ? static_cast<T>(cell_of(t.a[3])) : T(0);
    loss = static_cast<T*>(t.a[4]);
    dx = static_cast<T*>(t.a[5]);
    error = static_cast<int64_t*>(t.a[6]);
    notes = static_cast<ChunkNote*>(t.workspace);
    row_loss = f.reduction == kNone ? loss : reinterpret_cast<T*>(notes + note_count(f));
  }

  static int64_t rows(const CrossEntropyFields& f) { return f.outer * f.inner; }
  static bool small(const CrossEntropyFields& f) { return rows(f) * f.classes <= kSmall; }
  static int64_t note_count(const CrossEntropyFields& f) { return piece_tasks(rows(f), 1); }
  // A unit of the second step: a row, or a vector of rows where the classes are strided.
  static int64_t units_per_outer(const CrossEntropyFields& f) {
    return f.inner == 1 ? 1 : ceil_div(f.inner, L);
  }
  static int64_t units(const CrossEntropyFields& f) { return f.outer * units_per_outer(f); }
  static int64_t unit_work(const CrossEntropyFields& f) { return f.classes * min_of(f.inner, L); }

  static int phases(const int64_t* p) {
    return small(*reinterpret_cast<const CrossEntropyFields*>(p)) ? 1 : 3;
  }
  static int64_t tasks(const int64_t* p, int phase) {
    const auto& f = *reinterpret_cast<const CrossEntropyFields*>(p);
    if (small(f) || phase == 2) return 1;
    return phase == 0 ? note_count(f) : piece_tasks(units(f), unit_work(f));
  }
  static int64_t workspace(const int64_t* p) {
    const auto& f = *reinterpret_cast<const CrossEntropyFields*>(p);
    return note_count(f) * static_cast<int64_t>(sizeof(ChunkNote)) +
           (f.reduction == kNone ? 0 : rows(f) * static_cast<int64_t>(sizeof(T)));
  }

  bool valid(int64_t t) const { return t >= 0 && t < f.classes; }
  bool counts(int64_t t) const { return valid(t) && t != f.ignore_index; }

  void note(int64_t chunk) {
    ChunkNote n{0, 0, 0};
    if (index) {
      const Range r = piece_range(rows(f), 1, chunk);
      for (int64_t i = r.begin; i < r.end; ++i) {
        const int64_t t = index[i];
        if (t == f.ignore_index) continue;
        if (valid(t))
          n.weight += weight ? static_cast<double>(weight[t]) : 1.0;
        else if (n.errors++ == 0)
          n.first_error = t;
      }
    }
    notes[chunk] = n;
  }

  T divisor() const {
    if (f.reduction != kMean) return 1;
    if (!index) return static_cast<T>(rows(f));
    double sum = 0;
    for (int64_t k = 0; k < note_count(f); ++k) sum += notes[k].weight;
    return static_cast<T>(sum);
  }

  // One row with contiguous classes.
  void row(int64_t r, T scale) const {
    const int64_t n = f.classes;
    const T* in = x + r * n;
    T* out = dx ? dx + r * n : nullptr;
    const int64_t t = index ? index[r] : 0;
    if (index && !counts(t)) {
      const T value = t == f.ignore_index ? T(0) : static_cast<T>(__builtin_nan(""));
      row_loss[r] = value;
      for (int64_t c = 0; out && c < n; ++c) out[c] = value;
      return;
    }
    const T low = static_cast<T>(-__builtin_inf());
    const Vec<T> one = set1<T>(1);
    Vec<T> m = set1(low);
    for (int64_t i = 0; i < n; i += L) m = max(m, get(in, i, low));
    m = set1(hmax(m));
    Vec<T> s = zero<T>(), dot = zero<T>(), mass = zero<T>();  // sum e^d, sum g d, sum g: l = mass log s - dot
    const bool spread = probability || smoothing != T(0);
    const T* q = probability ? probability + r * n : nullptr;
    const T d_t = index ? in[t] - first(m) : T(0);
    const Vec<T> keep = set1(T(1) - smoothing), share = set1(smoothing / static_cast<T>(n));
    for (int64_t i = 0; i < n; i += L) {
      const Vec<T> d = get(in, i, low) - m;
      const Vec<T> e = exp_nonpositive(d);
      s = s + e;
      if (out) put(out, i, e);
      if (spread) {
        const Vec<T> g = goal(q, i, keep, share);
        // lanes beyond the row must not give 0 · inf
        const Vec<T> term = n - i >= L ? g * d : select(first_n<T>(n - i), g * d, zero<T>());
        dot = dot + term;
        mass = mass + g;
      }
    }
    s = set1(hsum(s));
    const T log_s = first(log(s));
    const T w_t = index ? (weight ? weight[t] : T(1)) * (T(1) - smoothing) : T(0);
    T l = index ? w_t * (log_s - d_t) : T(0);
    T total = w_t;
    if (spread) {
      const T mass_sum = hsum(mass);
      l += mass_sum * log_s - hsum(dot);
      total += mass_sum;
    }
    row_loss[r] = l;
    if (!out) return;
    const Vec<T> a = one / s * set1(total * scale), scaled = set1(scale);
    for (int64_t i = 0; i < n; i += L) {
      Vec<T> g = get(out, i, T(0)) * a;
      if (spread) g = fnma(goal(q, i, keep, share), scaled, g);
      put(out, i, g);
    }
    if (index) out[t] -= w_t * scale;
  }
  CNNMATH_INLINE Vec<T> get(const T* p, int64_t i, T other) const {
    if (f.classes - i >= L) return load(p + i);
    return select(first_n<T>(f.classes - i), load_n(p + i, f.classes - i), set1(other));
  }
  CNNMATH_INLINE void put(T* p, int64_t i, Vec<T> v) const {
    if (f.classes - i >= L)
      store(p + i, v);
    else
      store_n(p + i, v, f.classes - i);
  }
  static CNNMATH_INLINE T first(Vec<T> v) { return v.r[0]; }
  // w_c q_c of the classes i ..., where for indices q is the smoothing alone; 0 beyond the last
  CNNMATH_INLINE Vec<T> goal(const T* q, int64_t i, Vec<T> keep, Vec<T> share) const {
    const int64_t n = min_of(L, f.classes - i);
    const Vec<T> g = q ? fma(keep, load_n(q + i, n), share) : share;
    return select(first_n<T>(n), weight ? g * load_n(weight + i, n) : g, zero<T>());
  }

  // Up to L neighbouring rows, one a lane; their classes are `inner` apart.
  void rows_abreast(int64_t outer, int64_t column, T scale) const {
    const int64_t n = f.classes, stride = f.inner, k = min_of(L, stride - column);
    const int64_t base = outer * n * stride + column, r0 = outer * stride + column;
    const T* in = x + base;
    const bool spread = probability || smoothing != T(0);
    const T* q = probability ? probability + base : nullptr;
    const T keep = T(1) - smoothing, share = smoothing / static_cast<T>(n);
    Vec<T> m = set1(static_cast<T>(-__builtin_inf()));
    for (int64_t c = 0; c < n; ++c) m = max(m, load_n(in + c * stride, k));
    Vec<T> s = zero<T>(), dot = zero<T>(), mass = zero<T>();
    T* out = dx ? dx + base : nullptr;
    for (int64_t c = 0; c < n; ++c) {
      const Vec<T> d = load_n(in + c * stride, k) - m;
      const Vec<T> e = exp_nonpositive(d);
      s = s + e;
      if (out) store_n(out + c * stride, e, k);
      if (spread) {
        const Vec<T> g = goal_abreast(q, c, k, keep, share);
        dot = dot + g * d;
        mass = mass + g;
      }
    }
    const Vec<T> log_s = log(s);
    T w_t[L] = {}, d_t[L] = {}, rule[L] = {}, logs[L],
      ms[L];  // rule: what replaces the loss of an ignored or wrong row
    bool counted[L] = {};
    store(logs, log_s);
    store(ms, m);
    for (int64_t i = 0; i < k; ++i) {
      counted[i] = true;
      if (!index) continue;
      const int64_t t = index[r0 + i];
      counted[i] = counts(t);
      if (counted[i]) {
        w_t[i] = (weight ? weight[t] : T(1)) * keep;
        d_t[i] = in[t * stride + i] - ms[i];
      } else {
        rule[i] = t == f.ignore_index ? T(0) : static_cast<T>(__builtin_nan(""));
      }
    }
    const Vec<T> wt = load(w_t);
    Vec<T> l = spread ? mass * log_s - dot : zero<T>();
    if (index) l = l + wt * (log_s - load(d_t));
    store(logs, l);
    for (int64_t i = 0; i < k; ++i) row_loss[r0 + i] = counted[i] ? logs[i] : rule[i];
    if (!dx) return;
    const Vec<T> a = set1<T>(1) / s * ((wt + mass) * set1(scale));
    for (int64_t c = 0; c < n; ++c) {
      Vec<T> g = load_n(out + c * stride, k) * a;
      if (spread) g = fnma(goal_abreast(q, c, k, keep, share), set1(scale), g);
      store_n(out + c * stride, g, k);
    }
    for (int64_t i = 0; i < k; ++i) {
      if (!counted[i])
        for (int64_t c = 0; c < n; ++c) out[c * stride + i] = rule[i];
      else if (index)
        out[index[r0 + i] * stride + i] -= w_t[i] * scale;
    }
  }
  CNNMATH_INLINE Vec<T> goal_abreast(const T* q, int64_t c, int64_t k, T keep, T share) const {
    const Vec<T> g = q ? fma(set1(keep), load_n(q + c * f.inner, k), set1(share)) : set1(share);
    return weight ? g * set1(weight[c]) : g;
  }

  void some_rows(Range r) const {
    const T scale = T(1) / divisor();
    for (int64_t u = r.begin; u < r.end; ++u) {
      if (f.inner == 1)
        row(u, scale);
      else
        rows_abreast(u / units_per_outer(f), u % units_per_outer(f) * L, scale);
    }
  }

  void combine() const {
    if (f.reduction != kNone) *loss = sum_run(row_loss, 1, rows(f)) / divisor();
    if (!error) return;
    error[0] = error[1] = 0;
    for (int64_t k = note_count(f) - 1; k >= 0; --k) {
      error[0] += notes[k].errors;
      if (notes[k].errors) error[1] = notes[k].first_error;
    }
  }

  // args "x target weight? smoothing? loss dx? error?"
  static void run(const Task& t) {
    CrossEntropy me(t);
    if (small(me.f)) {
      for (int64_t k = 0; k < note_count(me.f); ++k) me.note(k);
      me.some_rows({0, units(me.f)});
      me.combine();
    } else if (t.phase == 0) {
      me.note(t.index);
    } else if (t.phase == 1) {
      me.some_rows(piece_range(units(me.f), unit_work(me.f), t.index));
    } else {
      me.combine();
    }
  }
};

}  // namespace
}  // namespace cnnmath::CNNMATH_ISA
