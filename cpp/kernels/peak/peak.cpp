#include "kernels/peak/peak.h"

#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

constexpr int kSums = 12;

int one_phase(const int64_t*) { return 1; }
int64_t none(const int64_t*) { return 0; }

int64_t fma_tasks(const int64_t* p, int) { return p[0]; }

template <class T>
void fma_peak(const Task& t) {
  const int64_t rounds = t.p[1];
  const T* x = static_cast<const T*>(t.a[0]);
  T* y = static_cast<T*>(t.a[1]);
  const Vec<T> a = broadcast(x), b = broadcast(x + 1);
  Vec<T> sum[kSums];
  for (int k = 0; k < kSums; ++k) sum[k] = set1(static_cast<T>(k));
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (int k = 0; k < kSums; ++k) sum[k] = fma(sum[k], a, b);
  Vec<T> total = sum[0];
  for (int k = 1; k < kSums; ++k) total = total + sum[k];
  y[t.index] = hsum(total);
  if (t.index == 0) y[t.p[0]] = static_cast<T>(kSums * Vec<T>::lanes);
}

int64_t triad_tasks(const int64_t* p, int) { return p[1]; }

template <class T>
void triad(const Task& t) {
  constexpr int64_t L = Vec<T>::lanes;
  const int64_t n = t.p[0], chunks = t.p[1];
  const Vec<T> s = broadcast(static_cast<const T*>(t.a[0]));
  const T* a = static_cast<const T*>(t.a[1]);
  const T* b = static_cast<const T*>(t.a[2]);
  T* y = static_cast<T*>(t.a[3]);
  const int64_t begin = n * t.index / chunks, end = n * (t.index + 1) / chunks;
  int64_t i = begin;
  for (; i + L <= end; i += L) store(y + i, fma(s, load(b + i), load(a + i)));
  if (i < end) store_n(y + i, fma(s, load_n(b + i, end - i), load_n(a + i, end - i)), end - i);
}

constexpr Kernel kernels[] = {
    {"fma_peak", "f32", "x y", "chunks rounds", one_phase, fma_tasks, none, none, fma_peak<float>},
    {"fma_peak", "f64", "x y", "chunks rounds", one_phase, fma_tasks, none, none, fma_peak<double>},
    {"triad", "f32", "s a b y", "n chunks", one_phase, triad_tasks, none, none, triad<float>},
    {"triad", "f64", "s a b y", "n chunks", one_phase, triad_tasks, none, none, triad<double>},
};

}  // namespace

extern const KernelList peak_kernels = {kernels, 4};

}  // namespace cnnmath::CNNMATH_ISA
