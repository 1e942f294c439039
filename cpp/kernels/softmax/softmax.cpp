#include "kernels/softmax/softmax.h"

#include "simd/loops.h"
#include "simd/math.h"
#include "simd/sums.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

// A unit is one line (inner = 1) or a vector of neighbouring lines.
template <class T>
struct Lines {
  static constexpr int64_t L = Vec<T>::lanes;
  int64_t per_outer, units, work;
  explicit Lines(const SoftmaxFields& f) {
    per_outer = f.inner == 1 ? 1 : ceil_div(f.inner, L);
    units = f.outer * per_outer;
    work = f.n * min_of(f.inner, L);
  }
};
template <class T>
int64_t softmax_tasks(const int64_t* p, int) {
  const Lines<T> l(*reinterpret_cast<const SoftmaxFields*>(p));
  return piece_tasks(l.units, l.work);
}

// The same steps along a line (vectors of neighbours, combined across lanes) and across lines (one lane
// each). Access hides the difference: at(i) are elements i ... of the line.
template <class T>
struct AlongLine {
  static constexpr int64_t L = Vec<T>::lanes;
  int64_t n;
  static constexpr int64_t step = L;
  CNNMATH_INLINE Vec<T> get(const T* p, int64_t i, T other) const {
    if (n - i >= L) return load(p + i);
    return select(first_n<T>(n - i), load_n(p + i, n - i), set1(other));
  }
  CNNMATH_INLINE void put(T* p, int64_t i, Vec<T> v) const {
    if (n - i >= L)
      store(p + i, v);
    else
      store_n(p + i, v, n - i);
  }
  CNNMATH_INLINE Vec<T> largest(Vec<T> v) const { return set1(hmax(v)); }
  CNNMATH_INLINE Vec<T> total(Vec<T> v) const { return set1(hsum(v)); }
};
template <class T>
struct AcrossLines {
  int64_t n, stride, lanes;
  static constexpr int64_t step = 1;
  CNNMATH_INLINE Vec<T> get(const T* p, int64_t i, T) const { return load_n(p + i * stride, lanes); }
  CNNMATH_INLINE void put(T* p, int64_t i, Vec<T> v) const { store_n(p + i * stride, v, lanes); }
  CNNMATH_INLINE Vec<T> largest(Vec<T> v) const { return v; }
  CNNMATH_INLINE Vec<T> total(Vec<T> v) const { return v; }
};

// A NaN need not survive the maximum: x - m is NaN where x is, and so is the sum.
template <class T, class A>
CNNMATH_INLINE Vec<T> line_max(const A& a, const T* x) {
  const T low = static_cast<T>(-__builtin_inf());
  Vec<T> m = set1(low);
  for (int64_t i = 0; i < a.n; i += A::step) m = max(m, a.get(x, i, low));
  return a.largest(m);
}

struct Softmax {
  template <class T, class A>
  static void forward(const A& a, const T* x, T* y) {
    const T low = static_cast<T>(-__builtin_inf());
    const Vec<T> m = line_max(a, x);
    Combined<Vec<T>> s{};
    for (int64_t i = 0; i < a.n; i += A::step) {
      const Vec<T> e = exp_nonpositive(a.get(x, i, low) - m);
      s.add(e);
      a.put(y, i, e);
    }
    const Vec<T> r = set1<T>(1) / a.total(s.sum());
    for (int64_t i = 0; i < a.n; i += A::step) a.put(y, i, a.get(y, i, 0) * r);
  }
  template <class T, class A>
  static void backward(const A& a, const T* dy, const T* y, T* dx) {
    Combined<Vec<T>> s{};
    for (int64_t i = 0; i < a.n; i += A::step) s.add(a.get(dy, i, 0) * a.get(y, i, 0));
    const Vec<T> t = a.total(s.sum());
    for (int64_t i = 0; i < a.n; i += A::step) a.put(dx, i, a.get(y, i, 0) * (a.get(dy, i, 0) - t));
  }
};

struct LogSoftmax {
  template <class T, class A>
  static void forward(const A& a, const T* x, T* y) {
    const T low = static_cast<T>(-__builtin_inf());
    const Vec<T> m = line_max(a, x);
    Combined<Vec<T>> s{};
    for (int64_t i = 0; i < a.n; i += A::step) s.add(exp_nonpositive(a.get(x, i, low) - m));
    const Vec<T> l = log(a.total(s.sum()));
    for (int64_t i = 0; i < a.n; i += A::step) a.put(y, i, (a.get(x, i, 0) - m) - l);
  }
  template <class T, class A>
  static void backward(const A& a, const T* dy, const T* y, T* dx) {
    Combined<Vec<T>> s{};
    for (int64_t i = 0; i < a.n; i += A::step) s.add(a.get(dy, i, 0));
    const Vec<T> t = a.total(s.sum());
    for (int64_t i = 0; i < a.n; i += A::step) a.put(dx, i, fnma(exp(a.get(y, i, 0)), t, a.get(dy, i, 0)));
  }
};

// Calls body(access, offset) for every unit of the task.
template <class T, class Body>
CNNMATH_INLINE void for_units(const Task& t, Body body) {
  constexpr int64_t L = Vec<T>::lanes;
  const auto& f = *reinterpret_cast<const SoftmaxFields*>(t.p);
  const Lines<T> l(f);
  const Range r = piece_range(l.units, l.work, t.index);
  for (int64_t u = r.begin; u < r.end; ++u) {
    if (f.inner == 1) {
      body(AlongLine<T>{f.n}, u * f.n);
    } else {
      const int64_t first = u % l.per_outer * L;
      body(AcrossLines<T>{f.n, f.inner, min_of(L, f.inner - first)}, u / l.per_outer * f.n * f.inner + first);
    }
  }
}

// args "x y"
template <class T, class F>
void forward(const Task& t) {
  const T* x = static_cast<const T*>(t.a[0]);
  T* y = static_cast<T*>(t.a[1]);
  for_units<T>(t, [&](const auto& a, int64_t offset) { F::forward(a, x + offset, y + offset); });
}
// args "dy y dx"
template <class T, class F>
void backward(const Task& t) {
  const T *dy = static_cast<const T*>(t.a[0]), *y = static_cast<const T*>(t.a[1]);
  T* dx = static_cast<T*>(t.a[2]);
  for_units<T>(t,
               [&](const auto& a, int64_t offset) { F::backward(a, dy + offset, y + offset, dx + offset); });
}

template <class T>
constexpr Kernel kernel(const char* name, const char* dtype, const char* args, void (*run)(const Task&)) {
  return {name, dtype, args, "outer n inner", one_phase, softmax_tasks<T>, no_bytes, no_bytes, run};
}

constexpr Kernel kKernels[] = {
    kernel<float>("softmax", "f32", "x y", forward<float, Softmax>),
    kernel<double>("softmax", "f64", "x y", forward<double, Softmax>),
    kernel<float>("softmax_grad", "f32", "dy y dx", backward<float, Softmax>),
    kernel<double>("softmax_grad", "f64", "dy y dx", backward<double, Softmax>),
    kernel<float>("log_softmax", "f32", "x y", forward<float, LogSoftmax>),
    kernel<double>("log_softmax", "f64", "x y", forward<double, LogSoftmax>),
    kernel<float>("log_softmax_grad", "f32", "dy y dx", backward<float, LogSoftmax>),
    kernel<double>("log_softmax_grad", "f64", "dy y dx", backward<double, LogSoftmax>),
};

}  // namespace

extern const KernelList softmax_kernels = {kKernels, static_cast<int>(sizeof kKernels / sizeof *kKernels)};

}  // namespace cnnmath::CNNMATH_ISA
