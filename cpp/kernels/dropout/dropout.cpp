// Dropout. See dropout.h.
#include "kernels/dropout/dropout.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

constexpr int64_t kBlock = 64;           // elements that one call of the generator serves
constexpr int64_t kTask = 128 * kBlock;  // elements of a task
constexpr int64_t kSmall = 20480;        // up to here one task

const DropoutShape& shape(const int64_t* p) { return *reinterpret_cast<const DropoutShape*>(p); }
int phases(const int64_t*) { return 1; }
int64_t tasks(const int64_t* p, int) {
  const int64_t n = shape(p).size;
  return n <= kSmall ? 1 : (n + kTask - 1) / kTask;
}
int64_t no_bytes(const int64_t*) { return 0; }

struct State {
  uint64_t seed, counter;
  double p;
};

// 32-bit words, each in the low half of a 64-bit lane: what the multiplication of two 32-bit numbers wants.
// The high halves hold anything; they are ignored by the multiplication and cut off at the end.
typedef uint64_t Words __attribute__((vector_size(kVecBytes)));
constexpr int kLanes = kVecBytes / 8;

CNNMATH_INLINE Words product(Words a, Words b) {
#if defined(__AVX512F__)
  return (Words)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Words)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Words)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}

typedef uint32_t Halves __attribute__((vector_size(kVecBytes / 2), aligned(4), may_alias));
CNNMATH_INLINE void put_low(uint32_t* p, Words a) {
  *reinterpret_cast<Halves*>(p) = (Halves) __builtin_convertvector(a, Halves);
}

// The words of counters 16 b ... 16 b + 15, ordered as the elements are. Two vectors of counters go side by
// side, so that multiplications do not wait for each other.
CNNMATH_INLINE void philox(const State& s, uint64_t number, int64_t block, uint32_t* words) {
  const Words m0 = Words{} + 0xd2511f53u, m1 = Words{} + 0xcd9e8d57u;
  Words lanes;
  for (int j = 0; j < kLanes; ++j) lanes[j] = static_cast<uint64_t>(j);
  for (int part = 0; part < 16; part += 2 * kLanes) {
    Words c0[2], c1[2], c2[2], c3[2];
    for (int v = 0; v < 2; ++v) {
      c0[v] = lanes + (static_cast<uint64_t>(block) * 16 + static_cast<uint64_t>(part + v * kLanes));
      c1[v] = (c0[v] >> 32) ^ (number << 16);
      c2[v] = Words{} + s.counter;
      c3[v] = Words{} + (s.counter >> 32);
    }
    uint32_t k0 = static_cast<uint32_t>(s.seed), k1 = static_cast<uint32_t>(s.seed >> 32);
    for (int round = 0; round < 10; ++round) {
      for (int v = 0; v < 2; ++v) {
        const Words p0 = product(c0[v], m0), p1 = product(c2[v], m1);
        c0[v] = (p1 >> 32) ^ c1[v] ^ (Words{} + k0);
        c2[v] = (p0 >> 32) ^ c3[v] ^ (Words{} + k1);
        c1[v] = p1;
        c3[v] = p0;
      }
      k0 += 0x9e3779b9u;
      k1 += 0xbb67ae85u;
    }
    for (int v = 0; v < 2; ++v) {
      uint32_t* w = words + part + v * kLanes;
      put_low(w, c0[v]);
      put_low(w + 16, c1[v]);
      put_low(w + 32, c2[v]);
      put_low(w + 48, c3[v]);
    }
  }
}

template <class T>
void drop(const Task& t, const State& s, const T* x, T* y) {
  constexpr int64_t L = Vec<T>::lanes;
  const DropoutShape& d = shape(t.p);
  const int64_t begin = t.index * kTask;
  const int64_t end = d.size <= kSmall ? d.size : (begin + kTask < d.size ? begin + kTask : d.size);
  const T scale = s.p >= 1 ? T{0} : static_cast<T>(1.0 / (1.0 - s.p));
  // p = 1 drops all by the scale, so that the limit fits 32 bits
  const uint32_t limit = s.p >= 1 ? 0xffffffffu : static_cast<uint32_t>(s.p * 4294967296.0);
  for (int64_t i = begin; i < end; i += kBlock) {
    alignas(64) uint32_t words[kBlock];
    alignas(64) T factor[kBlock];
    philox(s, static_cast<uint64_t>(d.number), i / kBlock, words);
    for (int64_t k = 0; k < kBlock; ++k) factor[k] = words[k] >= limit ? scale : T{0};
    if (i + kBlock <= end) {
      for (int64_t k = 0; k < kBlock; k += L) store(y + i + k, load(x + i + k) * load(factor + k));
    } else {
      for (int64_t k = 0; i + k < end; ++k) y[i + k] = x[i + k] * factor[k];
    }
  }
}

template <class T>
void dropout(const Task& t) {
  const uint64_t* key = static_cast<const uint64_t*>(t.a[0]);
  const State s{key[0], key[1], *static_cast<const double*>(t.a[1])};
  if (t.index == 0) *static_cast<State*>(t.a[4]) = s;
  drop(t, s, static_cast<const T*>(t.a[2]), static_cast<T*>(t.a[3]));
}
template <class T>
void dropout_backward(const Task& t) {
  drop(t, *static_cast<const State*>(t.a[1]), static_cast<const T*>(t.a[0]), static_cast<T*>(t.a[2]));
}

constexpr const char* kFields = "size number";
const Kernel kernels[] = {
    {"dropout", "f32", "key p x y state", kFields, phases, tasks, no_bytes, no_bytes, dropout<float>},
    {"dropout", "f64", "key p x y state", kFields, phases, tasks, no_bytes, no_bytes, dropout<double>},
    {"dropout_backward", "f32", "dy state dx", kFields, phases, tasks, no_bytes, no_bytes,
     dropout_backward<float>},
    {"dropout_backward", "f64", "dy state dx", kFields, phases, tasks, no_bytes, no_bytes,
     dropout_backward<double>},
};

}  // namespace

extern const KernelList dropout_kernels;
const KernelList dropout_kernels = {kernels, sizeof(kernels) / sizeof(kernels[0])};

}  // namespace cnnmath::CNNMATH_ISA
