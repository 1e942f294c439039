// One small vector vocabulary for every instruction set.
//
//   Vec<T>   T = float or double: Vec<T>::lanes numbers in one register
//   Int<T>   as many signed integers of the same width (int32 beside float, int64 beside double)
//   Mask<T>  one boolean a lane
//
// (The AVX-512 forms with a full mask are written where GCC's plain ones warn about their undefined source
// operand.)
//
// The instruction set is the one that the compiler's flags enable: AVX-512 (64 bytes), AVX2 with FMA (32),
// NEON on aarch64 (16), otherwise 16 bytes in plain SSE2 or whatever the compiler makes of them. Arithmetic
// and bit operations are the compiler's own vector extensions; only what they lack is written with
// intrinsics.
//
// Everything lies in the namespace of its instruction set, has internal linkage and is always inlined, so
// that the linker never chooses between copies made for two machines.
//
// NaN: lt, le, gt, ge, eq are false and ne is true when a lane is NaN. max(a, b) and min(a, b) give *b* when
// either lane is NaN or both are zeros (the rule of x86, kept everywhere): relu(x) = max(zero, x) hands NaN
// on, and max_nan/min_nan do so from either side.
#pragma once
// clang-format off: one line a function, so that the instruction sets can be compared.
#include <cstddef>
#include <cstdint>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef CNNMATH_ISA
#error "kernel sources are compiled with -DCNNMATH_ISA=<instruction set>"
#endif
#define CNNMATH_INLINE inline __attribute__((always_inline))

namespace cnnmath::CNNMATH_ISA {

#if defined(__AVX512F__)
constexpr int kVecBytes = 64;
constexpr int kVecRegisters = 32;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int kVecBytes = 32;
constexpr int kVecRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVecBytes = 16;
constexpr int kVecRegisters = 32;
#else
constexpr int kVecBytes = 16;
constexpr int kVecRegisters = 16;
#endif

template <class T> struct IntOf;
template <> struct IntOf<float> {
  using type = int32_t;
  using unsigned_type = uint32_t;
};
template <> struct IntOf<double> {
  using type = int64_t;
  using unsigned_type = uint64_t;
};

template <class T> struct Vec {
  typedef T Reg __attribute__((vector_size(kVecBytes)));
  static constexpr int lanes = kVecBytes / static_cast<int>(sizeof(T));
  Reg r;
};

template <class T> struct Int {
  using Lane = typename IntOf<T>::type;
  typedef Lane Reg __attribute__((vector_size(kVecBytes)));
  static constexpr int lanes = kVecBytes / static_cast<int>(sizeof(T));
  Reg r;
};

// ---------------------------------------------------------------- masks
#if defined(__AVX512F__)
template <class T> struct Mask;
template <> struct Mask<float> { __mmask16 m; };
template <> struct Mask<double> { __mmask8 m; };
#define CNNMATH_MASK_OP(op)                                                                   \
  template <class T> static CNNMATH_INLINE Mask<T> operator op(Mask<T> a, Mask<T> b) {        \
    return {static_cast<decltype(a.m)>(a.m op b.m)};                                          \
  }
CNNMATH_MASK_OP(&)
CNNMATH_MASK_OP(|)
CNNMATH_MASK_OP(^)
#undef CNNMATH_MASK_OP
template <class T> static CNNMATH_INLINE Mask<T> operator~(Mask<T> a) { return {static_cast<decltype(a.m)>(~a.m)}; }
template <class T> static CNNMATH_INLINE bool any(Mask<T> a) { return a.m != 0; }
template <class T> static CNNMATH_INLINE bool all(Mask<T> a) {
  return a.m == static_cast<decltype(a.m)>(~static_cast<decltype(a.m)>(0));
}
// true in the first n lanes
template <class T> static CNNMATH_INLINE Mask<T> first_n(int64_t n) {
  return {static_cast<decltype(Mask<T>::m)>(n >= Vec<T>::lanes ? ~0u : (1u << n) - 1u)};
}
#define CNNMATH_COMPARE(name, ps)                                                             \
  template <class T> static CNNMATH_INLINE Mask<T> name(Vec<T> a, Vec<T> b) {                 \
    if constexpr (sizeof(T) == 4) return {_mm512_cmp_ps_mask((__m512)a.r, (__m512)b.r, ps)};  \
    else return {_mm512_cmp_pd_mask((__m512d)a.r, (__m512d)b.r, ps)};                         \
  }
CNNMATH_COMPARE(lt, _CMP_LT_OQ)
CNNMATH_COMPARE(le, _CMP_LE_OQ)
CNNMATH_COMPARE(gt, _CMP_GT_OQ)
CNNMATH_COMPARE(ge, _CMP_GE_OQ)
CNNMATH_COMPARE(eq, _CMP_EQ_OQ)
CNNMATH_COMPARE(ne, _CMP_NEQ_UQ)
#undef CNNMATH_COMPARE
#define CNNMATH_COMPARE(name, code)                                                                      \
  template <class T> static CNNMATH_INLINE Mask<T> name(Int<T> a, Int<T> b) {                            \
    if constexpr (sizeof(T) == 4) return {_mm512_cmp_epi32_mask((__m512i)a.r, (__m512i)b.r, code)};      \
    else return {_mm512_cmp_epi64_mask((__m512i)a.r, (__m512i)b.r, code)};                               \
  }
CNNMATH_COMPARE(lt, _MM_CMPINT_LT)
CNNMATH_COMPARE(gt, _MM_CMPINT_NLE)
CNNMATH_COMPARE(eq, _MM_CMPINT_EQ)
CNNMATH_COMPARE(ne, _MM_CMPINT_NE)
#undef CNNMATH_COMPARE
// m ? a : b, lane by lane
template <class T> static CNNMATH_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) {
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
  if constexpr (sizeof(T) == 4) return {(R)_mm512_mask_blend_ps(m.m, (__m512)b.r, (__m512)a.r)};
  else return {(R)_mm512_mask_blend_pd(m.m, (__m512d)b.r, (__m512d)a.r)};
}
template <class T> static CNNMATH_INLINE Int<T> select(Mask<T> m, Int<T> a, Int<T> b) {
  using R = typename Int<T>::Reg;
  if constexpr (sizeof(T) == 4) return {(R)_mm512_mask_blend_epi32(m.m, (__m512i)b.r, (__m512i)a.r)};
  else return {(R)_mm512_mask_blend_epi64(m.m, (__m512i)b.r, (__m512i)a.r)};
}
#else
// All bits of a lane are set or none.
template <class T> struct Mask { typename Int<T>::Reg m; };
template <class T> static CNNMATH_INLINE Mask<T> operator&(Mask<T> a, Mask<T> b) { return {a.m & b.m}; }
template <class T> static CNNMATH_INLINE Mask<T> operator|(Mask<T> a, Mask<T> b) { return {a.m | b.m}; }
template <class T> static CNNMATH_INLINE Mask<T> operator^(Mask<T> a, Mask<T> b) { return {a.m ^ b.m}; }
template <class T> static CNNMATH_INLINE Mask<T> operator~(Mask<T> a) { return {~a.m}; }
template <class T> static CNNMATH_INLINE bool any(Mask<T> a) {
#if defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)a.m) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_epi8((__m128i)a.m) != 0;
#else
  typedef int64_t Two __attribute__((vector_size(16)));
  const Two t = (Two)a.m;
  return (t[0] | t[1]) != 0;
#endif
}
template <class T> static CNNMATH_INLINE bool all(Mask<T> a) { return !any(~a); }
// true in the first n lanes
template <class T> static CNNMATH_INLINE Mask<T> first_n(int64_t n) {
  using Lane = typename Int<T>::Lane;
  typename Int<T>::Reg i;
  for (int k = 0; k < Vec<T>::lanes; ++k) i[k] = static_cast<Lane>(k);
  const Lane limit = static_cast<Lane>(n < Vec<T>::lanes ? n : Vec<T>::lanes);
  return {(typename Int<T>::Reg)(i < limit)};
}
#define CNNMATH_COMPARE(name, op)                                                                           \
  template <class T> static CNNMATH_INLINE Mask<T> name(Vec<T> a, Vec<T> b) {                               \
    return {(typename Int<T>::Reg)(a.r op b.r)};                                                            \
  }                                                                                                         \
  template <class T> static CNNMATH_INLINE Mask<T> name(Int<T> a, Int<T> b) {                               \
    return {(typename Int<T>::Reg)(a.r op b.r)};                                                            \
  }
CNNMATH_COMPARE(lt, <)
CNNMATH_COMPARE(le, <=)
CNNMATH_COMPARE(gt, >)
CNNMATH_COMPARE(ge, >=)
CNNMATH_COMPARE(eq, ==)
CNNMATH_COMPARE(ne, !=)
#undef CNNMATH_COMPARE
// m ? a : b, lane by lane
template <class T> static CNNMATH_INLINE Int<T> select(Mask<T> m, Int<T> a, Int<T> b) {
  return {(m.m & a.r) | (~m.m & b.r)};
}
template <class T> static CNNMATH_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) {
#if defined(__AVX2__)
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
  if constexpr (sizeof(T) == 4) return {(R)_mm256_blendv_ps((__m256)b.r, (__m256)a.r, (__m256)m.m)};
  else return {(R)_mm256_blendv_pd((__m256d)b.r, (__m256d)a.r, (__m256d)m.m)};
#else
  using I = typename Int<T>::Reg;
  return {(typename Vec<T>::Reg)((m.m & (I)a.r) | (~m.m & (I)b.r))};
#endif
}
#endif

// ---------------------------------------------------------------- constants
template <class T> static CNNMATH_INLINE Vec<T> zero() { return {typename Vec<T>::Reg{}}; }
template <class T> static CNNMATH_INLINE Int<T> zero_int() { return {typename Int<T>::Reg{}}; }
template <class T> static CNNMATH_INLINE Vec<T> set1(T x) {
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return {(R)_mm512_set1_ps(x)};
  else return {(R)_mm512_set1_pd(x)};
#else
  return {x - R{}};  // x - 0 is x for every x, -0 too
#endif
}
// the number at p in every lane
template <class T> static CNNMATH_INLINE Vec<T> broadcast(const T* p) { return set1<T>(*p); }
// integers of the width of T: set1_int<float>(127)
template <class T> static CNNMATH_INLINE Int<T> set1_int(typename Int<T>::Lane x) {
  return {x + typename Int<T>::Reg{}};
}
// 0, 1, 2, ...
template <class T> static CNNMATH_INLINE Int<T> iota() {
  Int<T> i;
  for (int k = 0; k < Int<T>::lanes; ++k) i.r[k] = static_cast<typename Int<T>::Lane>(k);
  return i;
}

// ---------------------------------------------------------------- memory (nothing is assumed aligned)
template <class T> static CNNMATH_INLINE Vec<T> load(const T* p) {
  typedef T U __attribute__((vector_size(kVecBytes), aligned(sizeof(T)), may_alias));
  return {(typename Vec<T>::Reg)*reinterpret_cast<const U*>(p)};
}
template <class T> static CNNMATH_INLINE void store(T* p, Vec<T> a) {
  typedef T U __attribute__((vector_size(kVecBytes), aligned(sizeof(T)), may_alias));
  *reinterpret_cast<U*>(p) = a.r;
}
// The first n lanes (0 <= n); zeros elsewhere. Memory beyond them is not touched.
template <class T> static CNNMATH_INLINE Vec<T> load_n(const T* p, int64_t n) {
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return {(R)_mm512_maskz_loadu_ps(first_n<T>(n).m, p)};
  else return {(R)_mm512_maskz_loadu_pd(first_n<T>(n).m, p)};
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return {(R)_mm256_maskload_ps(p, (__m256i)first_n<T>(n).m)};
  else return {(R)_mm256_maskload_pd(p, (__m256i)first_n<T>(n).m)};
#else
  R r{};
  for (int k = 0; k < Vec<T>::lanes; ++k)
    if (k < n) r[k] = p[k];
  return {r};
#endif
}
template <class T> static CNNMATH_INLINE void store_n(T* p, Vec<T> a, int64_t n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(p, first_n<T>(n).m, (__m512)a.r);
  else _mm512_mask_storeu_pd(p, first_n<T>(n).m, (__m512d)a.r);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) _mm256_maskstore_ps(p, (__m256i)first_n<T>(n).m, (__m256)a.r);
  else _mm256_maskstore_pd(p, (__m256i)first_n<T>(n).m, (__m256d)a.r);
#else
  for (int k = 0; k < Vec<T>::lanes; ++k)
    if (k < n) p[k] = a.r[k];
#endif
}
// One byte a lane (codes of pooling windows): widened to integers, or their low bytes. With intrinsics, because
// the compiler's own conversion goes lane by lane through general registers.
template <class T> static CNNMATH_INLINE Int<T> load_u8(const uint8_t* p) {
  using R = typename Int<T>::Reg;
#if defined(__AVX512F__)
  const __m128i* q = reinterpret_cast<const __m128i*>(p);
  if constexpr (sizeof(T) == 4) return {(R)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(q))};
  else return {(R)_mm512_maskz_cvtepu8_epi64(0xff, _mm_loadl_epi64(q))};
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return {(R)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))};
  else return {(R)_mm256_cvtepu8_epi64(_mm_loadu_si32(p))};
#elif defined(__SSE2__)
  const __m128i o = _mm_setzero_si128();
  if constexpr (sizeof(T) == 4) return {(R)_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_loadu_si32(p), o), o)};
  else return {R{p[0], p[1]}};
#else
  R r;
  for (int k = 0; k < Int<T>::lanes; ++k) r[k] = p[k];
  return {r};
#endif
}
template <class T> static CNNMATH_INLINE void store_u8(uint8_t* p, Int<T> a) {
#if defined(__AVX512F__)
  __m128i* q = reinterpret_cast<__m128i*>(p);
  if constexpr (sizeof(T) == 4) _mm_storeu_si128(q, _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)a.r));
  else _mm_storel_epi64(q, _mm512_maskz_cvtepi64_epi8(0xff, (__m512i)a.r));
#elif defined(__AVX2__)
  // the low bytes of each half to its bottom, then the two halves side by side
  const char o = -1;
  if constexpr (sizeof(T) == 4) {
    const __m256i pick = _mm256_setr_epi8(0, 4, 8, 12, o, o, o, o, o, o, o, o, o, o, o, o,  //
                                          0, 4, 8, 12, o, o, o, o, o, o, o, o, o, o, o, o);
    const __m256i t = _mm256_shuffle_epi8((__m256i)a.r, pick);
    const __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), both);
  } else {
    const __m256i pick = _mm256_setr_epi8(0, 8, o, o, o, o, o, o, o, o, o, o, o, o, o, o,  //
                                          0, 8, o, o, o, o, o, o, o, o, o, o, o, o, o, o);
    const __m256i t = _mm256_shuffle_epi8((__m256i)a.r, pick);
    _mm_storeu_si32(p, _mm_unpacklo_epi16(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1)));
  }
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4) {
    const __m128i t = _mm_packs_epi32(_mm_and_si128((__m128i)a.r, _mm_set1_epi32(255)), _mm_setzero_si128());
    _mm_storeu_si32(p, _mm_packus_epi16(t, t));
  } else {
    for (int k = 0; k < Int<T>::lanes; ++k) p[k] = static_cast<uint8_t>(a.r[k]);
  }
#else
  for (int k = 0; k < Int<T>::lanes; ++k) p[k] = static_cast<uint8_t>(a.r[k]);
#endif
}

// ---------------------------------------------------------------- arithmetic
#define CNNMATH_BINARY(V, op) \
  template <class T> static CNNMATH_INLINE V<T> operator op(V<T> a, V<T> b) { return {a.r op b.r}; }
CNNMATH_BINARY(Vec, +)
CNNMATH_BINARY(Vec, -)
CNNMATH_BINARY(Vec, *)
CNNMATH_BINARY(Vec, /)
CNNMATH_BINARY(Int, +)
CNNMATH_BINARY(Int, -)
CNNMATH_BINARY(Int, &)
CNNMATH_BINARY(Int, |)
CNNMATH_BINARY(Int, ^)
#undef CNNMATH_BINARY
template <class T> static CNNMATH_INLINE Int<T> operator~(Int<T> a) { return {~a.r}; }
template <class T> static CNNMATH_INLINE Int<T> operator<<(Int<T> a, int n) { return {a.r << n}; }
// arithmetic: the sign is kept
template <class T> static CNNMATH_INLINE Int<T> operator>>(Int<T> a, int n) { return {a.r >> n}; }
// logical: zeros come in
template <class T> static CNNMATH_INLINE Int<T> shift_right_logical(Int<T> a, int n) {
  typedef typename IntOf<T>::unsigned_type U __attribute__((vector_size(kVecBytes)));
  return {(typename Int<T>::Reg)((U)a.r >> n)};
}

// a * b + c, rounded once; in two roundings where the machine has no such instruction (baseline).
template <class T> static CNNMATH_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return {(R)_mm512_fmadd_ps((__m512)a.r, (__m512)b.r, (__m512)c.r)};
  else return {(R)_mm512_fmadd_pd((__m512d)a.r, (__m512d)b.r, (__m512d)c.r)};
#elif defined(__AVX2__) && defined(__FMA__)
  if constexpr (sizeof(T) == 4) return {(R)_mm256_fmadd_ps((__m256)a.r, (__m256)b.r, (__m256)c.r)};
  else return {(R)_mm256_fmadd_pd((__m256d)a.r, (__m256d)b.r, (__m256d)c.r)};
#elif defined(__aarch64__)
  if constexpr (sizeof(T) == 4) return {(R)vfmaq_f32((float32x4_t)c.r, (float32x4_t)a.r, (float32x4_t)b.r)};
  else return {(R)vfmaq_f64((float64x2_t)c.r, (float64x2_t)a.r, (float64x2_t)b.r)};
#else
  return {a.r * b.r + c.r};
#endif
}
// the same of single numbers
static CNNMATH_INLINE float fma(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
// c += a * b, as fma. In a loop whose sums fill the registers, GCC's own choice among the three forms of the instruction
// moves and spills them; here the sum stays where it is.
template <class T> static CNNMATH_INLINE void fma_to(Vec<T>& c, Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) asm("vfmadd231ps %2, %1, %0" : "+v"(c.r) : "v"(a.r), "v"(b.r));
  else asm("vfmadd231pd %2, %1, %0" : "+v"(c.r) : "v"(a.r), "v"(b.r));
#elif defined(__AVX2__) && defined(__FMA__)
  if constexpr (sizeof(T) == 4) asm("vfmadd231ps %2, %1, %0" : "+x"(c.r) : "x"(a.r), "x"(b.r));
  else asm("vfmadd231pd %2, %1, %0" : "+x"(c.r) : "x"(a.r), "x"(b.r));
#else
  c = fma(a, b, c);
#endif
}
// c += *a * b. AVX-512 spreads the number as it multiplies, which costs no instruction: for numbers that are used once.
template <class T> static CNNMATH_INLINE void fma_to(Vec<T>& c, const T* a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) asm("vfmadd231ps %1%{1to16%}, %2, %0" : "+v"(c.r) : "m"(*a), "v"(b.r));
  else asm("vfmadd231pd %1%{1to8%}, %2, %0" : "+v"(c.r) : "m"(*a), "v"(b.r));
#else
  fma_to(c, broadcast(a), b);
#endif
}
// c - a * b, as fma
template <class T> static CNNMATH_INLINE Vec<T> fnma(Vec<T> a, Vec<T> b, Vec<T> c) {
  return fma(Vec<T>{-a.r}, b, c);
}
template <class T> static CNNMATH_INLINE Vec<T> operator-(Vec<T> a) { return {-a.r}; }

template <class T> static CNNMATH_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return {(R)_mm512_maskz_max_ps(0xffff, (__m512)a.r, (__m512)b.r)};
  else return {(R)_mm512_maskz_max_pd(0xff, (__m512d)a.r, (__m512d)b.r)};
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return {(R)_mm256_max_ps((__m256)a.r, (__m256)b.r)};
  else return {(R)_mm256_max_pd((__m256d)a.r, (__m256d)b.r)};
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4) return {(R)_mm_max_ps((__m128)a.r, (__m128)b.r)};
  else return {(R)_mm_max_pd((__m128d)a.r, (__m128d)b.r)};
#else
  return select(gt(a, b), a, b);
#endif
}
template <class T> static CNNMATH_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return {(R)_mm512_maskz_min_ps(0xffff, (__m512)a.r, (__m512)b.r)};
  else return {(R)_mm512_maskz_min_pd(0xff, (__m512d)a.r, (__m512d)b.r)};
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return {(R)_mm256_min_ps((__m256)a.r, (__m256)b.r)};
  else return {(R)_mm256_min_pd((__m256d)a.r, (__m256d)b.r)};
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4) return {(R)_mm_min_ps((__m128)a.r, (__m128)b.r)};
  else return {(R)_mm_min_pd((__m128d)a.r, (__m128d)b.r)};
#else
  return select(lt(a, b), a, b);
#endif
}
// NaN when either is
template <class T> static CNNMATH_INLINE Vec<T> max_nan(Vec<T> a, Vec<T> b) {
  return select(ne(a, a), a, max(a, b));
}
template <class T> static CNNMATH_INLINE Vec<T> min_nan(Vec<T> a, Vec<T> b) {
  return select(ne(a, a), a, min(a, b));
}

template <class T> static CNNMATH_INLINE Vec<T> sqrt(Vec<T> a) {
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return {(R)_mm512_maskz_sqrt_ps(0xffff, (__m512)a.r)};
  else return {(R)_mm512_maskz_sqrt_pd(0xff, (__m512d)a.r)};
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return {(R)_mm256_sqrt_ps((__m256)a.r)};
  else return {(R)_mm256_sqrt_pd((__m256d)a.r)};
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4) return {(R)_mm_sqrt_ps((__m128)a.r)};
  else return {(R)_mm_sqrt_pd((__m128d)a.r)};
#elif defined(__aarch64__)
  if constexpr (sizeof(T) == 4) return {(R)vsqrtq_f32((float32x4_t)a.r)};
  else return {(R)vsqrtq_f64((float64x2_t)a.r)};
#else
  R r;
  for (int k = 0; k < Vec<T>::lanes; ++k) r[k] = static_cast<T>(__builtin_sqrt(static_cast<double>(a.r[k])));
  return {r};
#endif
}

// ---------------------------------------------------------------- bits
// The same bits under another type.
template <class T> static CNNMATH_INLINE Int<T> bits(Vec<T> a) { return {(typename Int<T>::Reg)a.r}; }
template <class T> static CNNMATH_INLINE Vec<T> from_bits(Int<T> a) { return {(typename Vec<T>::Reg)a.r}; }
template <class T> static CNNMATH_INLINE Vec<T> operator&(Vec<T> a, Vec<T> b) { return from_bits(bits(a) & bits(b)); }
template <class T> static CNNMATH_INLINE Vec<T> operator|(Vec<T> a, Vec<T> b) { return from_bits(bits(a) | bits(b)); }
template <class T> static CNNMATH_INLINE Vec<T> operator^(Vec<T> a, Vec<T> b) { return from_bits(bits(a) ^ bits(b)); }
// ~a & b
template <class T> static CNNMATH_INLINE Vec<T> andnot(Vec<T> a, Vec<T> b) {
  return from_bits<T>(~bits(a) & bits(b));
}
template <class T> static CNNMATH_INLINE Vec<T> sign_bit() { return set1<T>(static_cast<T>(-0.0)); }
template <class T> static CNNMATH_INLINE Vec<T> abs(Vec<T> a) { return andnot(sign_bit<T>(), a); }
// |a| with the sign of b
template <class T> static CNNMATH_INLINE Vec<T> copysign(Vec<T> a, Vec<T> b) {
  return abs(a) | (sign_bit<T>() & b);
}
// Integers as floats, and floats cut towards zero (of a number that does not fit: any integer).
template <class T> static CNNMATH_INLINE Vec<T> to_float(Int<T> a) {
  return {__builtin_convertvector(a.r, typename Vec<T>::Reg)};
}
template <class T> static CNNMATH_INLINE Int<T> to_int(Vec<T> a) {
  return {__builtin_convertvector(a.r, typename Int<T>::Reg)};
}

// To the nearest integer, halves to even.
template <class T> static CNNMATH_INLINE Vec<T> round(Vec<T> a) {
#if defined(__AVX512F__)
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
  if constexpr (sizeof(T) == 4) return {(R)_mm512_maskz_roundscale_ps(0xffff, (__m512)a.r, 8)};
  else return {(R)_mm512_maskz_roundscale_pd(0xff, (__m512d)a.r, 8)};
#elif defined(__AVX2__)
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
  if constexpr (sizeof(T) == 4) return {(R)_mm256_round_ps((__m256)a.r, 8)};
  else return {(R)_mm256_round_pd((__m256d)a.r, 8)};
#elif defined(__aarch64__)
  [[maybe_unused]] typedef typename Vec<T>::Reg R;
  if constexpr (sizeof(T) == 4) return {(R)vrndnq_f32((float32x4_t)a.r)};
  else return {(R)vrndnq_f64((float64x2_t)a.r)};
#else
  // Beyond 2^mantissa bits every float is an integer; below, adding it drops the fraction.
  const Vec<T> big = set1<T>(sizeof(T) == 4 ? static_cast<T>(8388608.0) : static_cast<T>(4503599627370496.0));
  const Vec<T> t = copysign(big, a);
  return select(lt(abs(a), big), copysign((a + t) - t, a), a);
#endif
}

// For exp: 2^n for an integer-valued n in [-126, 127] (float), [-1022, 1023] (double). Adding 1.5 * 2^mantissa bits
// puts n + bias in the low bits, the shift moves it to the exponent.
template <class T> static CNNMATH_INLINE Vec<T> exp2_int(Vec<T> n) {
  if constexpr (sizeof(T) == 4) return from_bits(bits(n + set1<T>(12582912.f + 127.f)) << 23);
  else return from_bits(bits(n + set1<T>(6755399441055744.0 + 1023.0)) << 52);
}
// a * 2^n for an integer-valued n of up to twice that range; two steps, so that a result that is subnormal or
// near the largest number comes out right.
template <class T> static CNNMATH_INLINE Vec<T> ldexp(Vec<T> a, Vec<T> n) {
  const Vec<T> half = round(n * set1<T>(static_cast<T>(0.5)));
  return a * exp2_int(half) * exp2_int(n - half);
}
// For log: a = m * 2^e with 1 <= m < 2, for positive normal a.
template <class T> static CNNMATH_INLINE Vec<T> mantissa(Vec<T> a) {
  if constexpr (sizeof(T) == 4)
    return from_bits((bits(a) & set1_int<T>(0x007fffff)) | set1_int<T>(0x3f800000));
  else
    return from_bits((bits(a) & set1_int<T>(0x000fffffffffffff)) | set1_int<T>(0x3ff0000000000000));
}
template <class T> static CNNMATH_INLINE Vec<T> exponent(Vec<T> a) {
  if constexpr (sizeof(T) == 4)
    return from_bits(shift_right_logical(bits(a), 23) | set1_int<T>(0x4b000000)) - set1<T>(8388608.f + 127.f);
  else
    return from_bits(shift_right_logical(bits(a), 52) | set1_int<T>(0x4330000000000000)) -
           set1<T>(4503599627370496.0 + 1023.0);
}

}  // namespace cnnmath::CNNMATH_ISA

#include "simd/lanes.h"
