// Optimizer updates. See optim.h.
//
// The segments are thought of as one long array that is cut into blocks, one a task: a block may hold many
// small segments or a part of a large one. All is elementwise and the last elements of a segment go through
// the same vector instructions, so that no cut can change a bit.
#include "kernels/optim/optim.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

constexpr int64_t kBlock = 8192;
constexpr int64_t kSmall = 20480;  // up to here one task

const SegmentList& segments(const int64_t* p) { return *reinterpret_cast<const SegmentList*>(p); }

int64_t total(const SegmentList& s) {
  int64_t n = 0;
  for (int64_t i = 0; i < s.count; ++i) n += (&s.sizes[0])[i];
  return n;
}
int phases(const int64_t*) { return 1; }
int64_t tasks(const int64_t* p, int) {
  const int64_t n = total(segments(p));
  return n <= kSmall ? 1 : (n + kBlock - 1) / kBlock;
}
int64_t no_bytes(const int64_t*) { return 0; }

double cell(const Task& t, int i) { return *static_cast<const double*>(t.a[i]); }

// Calls step(pointers, offset, lanes) for every vector of the task's block.
template <class T, class Step>
CNNMATH_INLINE void each(const Task& t, int64_t cells, int64_t arrays, Step step) {
  constexpr int64_t L = Vec<T>::lanes;
  const SegmentList& s = segments(t.p);
  const int64_t all = total(s);
  const int64_t begin = t.index * kBlock,
                end = all <= kSmall ? all : (begin + kBlock < all ? begin + kBlock : all);
  int64_t at = 0;
  for (int64_t i = 0; i < s.count && at < end; ++i) {
    const int64_t size = (&s.sizes[0])[i];
    const int64_t from = begin > at ? begin - at : 0, to = end - at < size ? end - at : size;
    void* const* a = t.a + cells + i * arrays;
    int64_t k = from;
    for (; k + L <= to; k += L) step(a, k, L);
    if (k < to) step(a, k, to - k);
    at += size;
  }
}
template <class T>
CNNMATH_INLINE Vec<T> get(void* p, int64_t k, int64_t n) {
  const T* q = static_cast<const T*>(p) + k;
  return n == Vec<T>::lanes ? load(q) : load_n(q, n);
}
template <class T>
CNNMATH_INLINE void set(void* p, int64_t k, int64_t n, Vec<T> v) {
  T* q = static_cast<T*>(p) + k;
  if (n == Vec<T>::lanes)
    store(q, v);
  else
    store_n(q, v, n);
}

template <class T>
void sgd(const Task& t) {
  const SgdShape& s = *reinterpret_cast<const SgdShape*>(t.p);
  const auto constant = [](double x) { return set1<T>(static_cast<T>(x)); };
  const Vec<T> lr = constant(cell(t, 0)), momentum = constant(cell(t, 1)), fresh = constant(1.0 - cell(t, 2)),
               decay = constant(cell(t, 3));
  if (!s.buffers) {
    each<T>(t, 5, 2, [&](void* const* a, int64_t k, int64_t n) __attribute__((always_inline)) {
      const Vec<T> p = get<T>(a[0], k, n);
      set(a[0], k, n, fnma(lr, fma(decay, p, get<T>(a[1], k, n)), p));
    });
    return;
  }
  const bool first = cell(t, 4) != 0, nesterov = s.nesterov != 0;
  each<T>(t, 5, 3, [&](void* const* a, int64_t k, int64_t n) __attribute__((always_inline)) {
    const Vec<T> p = get<T>(a[0], k, n), d = fma(decay, p, get<T>(a[1], k, n));
    const Vec<T> v = first ? d : fma(momentum, get<T>(a[2], k, n), fresh * d);
    set(a[2], k, n, v);
    set(a[0], k, n, fnma(lr, nesterov ? fma(momentum, v, d) : v, p));
  });
}

template <class T>
void adam(const Task& t) {
  const AdamShape& s = *reinterpret_cast<const AdamShape*>(t.p);
  const auto constant = [](double x) { return set1<T>(static_cast<T>(x)); };
  const double lr = cell(t, 0), beta1 = cell(t, 1), beta2 = cell(t, 2), weight_decay = cell(t, 4);
  const Vec<T> rest1 = constant(1.0 - beta1), keep2 = constant(beta2), rest2 = constant(1.0 - beta2),
               eps = constant(cell(t, 3)), step = constant(lr / cell(t, 5)),
               root = constant(sqrt(set1<double>(cell(t, 6))).r[0]);
  const Vec<T> decay = constant(s.decoupled ? 0.0 : weight_decay);
  const Vec<T> shrink = constant(s.decoupled ? 1.0 - lr * weight_decay : 1.0);
  const bool amsgrad = s.amsgrad != 0;
  each<T>(t, 7, amsgrad ? 5 : 4, [&](void* const* a, int64_t k, int64_t n) __attribute__((always_inline)) {
    const Vec<T> p = get<T>(a[0], k, n), g = fma(decay, p, get<T>(a[1], k, n)), m0 = get<T>(a[2], k, n);
    const Vec<T> m = fma(rest1, g - m0, m0);
    Vec<T> h = fma(rest2 * g, g, keep2 * get<T>(a[3], k, n));
    set(a[2], k, n, m);
    set(a[3], k, n, h);
    if (amsgrad) {
      h = max_nan(get<T>(a[4], k, n), h);
      set(a[4], k, n, h);
    }
    set(a[0], k, n, fnma(step, m / (sqrt(h) / root + eps), shrink * p));
  });
}

constexpr const char* kSgdArgs = "lr momentum dampening weight_decay first segments*";
constexpr const char* kSgdFields = "nesterov buffers count sizes*";
constexpr const char* kAdamArgs = "lr beta1 beta2 eps weight_decay correction1 correction2 segments*";
constexpr const char* kAdamFields = "decoupled amsgrad count sizes*";

const Kernel kernels[] = {
    {"sgd", "f32", kSgdArgs, kSgdFields, phases, tasks, no_bytes, no_bytes, sgd<float>},
    {"sgd", "f64", kSgdArgs, kSgdFields, phases, tasks, no_bytes, no_bytes, sgd<double>},
    {"adam", "f32", kAdamArgs, kAdamFields, phases, tasks, no_bytes, no_bytes, adam<float>},
    {"adam", "f64", kAdamArgs, kAdamFields, phases, tasks, no_bytes, no_bytes, adam<double>},
};

}  // namespace

extern const KernelList optim_kernels;
const KernelList optim_kernels = {kernels, sizeof(kernels) / sizeof(kernels[0])};

}  // namespace cnnmath::CNNMATH_ISA
