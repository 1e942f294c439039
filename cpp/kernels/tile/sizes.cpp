#include "kernels/tile/tile.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

// After the sum: what C held, bias, relu, and the store, a full or a partial vector at a time.
template <class T, int M, int NV>
CNNMATH_INLINE void finish(Vec<T> (&acc)[M][NV], T* const* c, const TileCall<T>& call) {
  constexpr int L = Vec<T>::lanes;
  const int64_t tail = call.columns - (NV - 1) * L;
  T* out[M];
#pragma GCC unroll 32
  for (int i = 0; i < M; ++i) out[i] = c[i] + call.c_offset;
  if (call.accumulate) {
#pragma GCC unroll 32
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j)
        acc[i][j] =
            acc[i][j] + (j < NV - 1 || tail >= L ? load(out[i] + j * L) : load_n(out[i] + j * L, tail));
  }
  if (call.bias) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      const Vec<T> bias = j < NV - 1 ? load(call.bias + j * L) : load_n(call.bias + j * L, tail);
#pragma GCC unroll 32
      for (int i = 0; i < M; ++i) acc[i][j] = acc[i][j] + bias;
    }
  }
  if (call.relu) {
#pragma GCC unroll 32
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) acc[i][j] = max(zero<T>(), acc[i][j]);
  }
  if (tail >= L) {
#pragma GCC unroll 32
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) store(out[i] + j * L, acc[i][j]);
  } else {
#pragma GCC unroll 32
    for (int i = 0; i < M; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < NV - 1; ++j) store(out[i] + j * L, acc[i][j]);
      store_n(out[i] + (NV - 1) * L, acc[i][NV - 1], tail);
    }
  }
}

// A number of A times a row of B.
template <class T, int NV>
CNNMATH_INLINE void multiply_row(Vec<T> (&acc)[NV], const T* a, const Vec<T> (&b)[NV]) {
  if constexpr (NV == 1) {
    fma_to(acc[0], a, b[0]);
  } else {
    const Vec<T> va = broadcast(a);
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) fma_to(acc[j], va, b[j]);
  }
}

// One k: a column of A times a row of B.
template <class T, int M, int NV>
CNNMATH_INLINE void add_outer(Vec<T> (&acc)[M][NV], const T* const (&a)[M], int64_t k, const T* b) {
  Vec<T> vb[NV];
#pragma GCC unroll 4
  for (int j = 0; j < NV; ++j) vb[j] = load(b + j * Vec<T>::lanes);
#pragma GCC unroll 32
  for (int i = 0; i < M; ++i) multiply_row(acc[i], a[i] + k, vb);
}

template <class T, int M, int NV>
void rows_tile(const T* const* a, T* const* c, const TileCall<T>& call) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> acc[M][NV];
#pragma GCC unroll 32
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = zero<T>();
  const int64_t depth = call.depth, ldb = call.ldb;
  for (int64_t block = 0; block < call.blocks; ++block) {
    // k runs from -depth to 0 behind pointers to the ends: one register less than a counter and a limit.
    const T* end[M];
    const int64_t offset = call.a_offset[block] + depth;
#pragma GCC unroll 32
    for (int i = 0; i < M; ++i) end[i] = a[i] + offset;
    const T* b = call.b + call.b_offset[block];
    int64_t k = -depth;
    // Rows of B packed one behind the other, four at a time: the counting would take slots from the multiply-adds.
    if (ldb == NV * L) {
      for (; k <= -4; k += 4, b += 4 * NV * L)
#pragma GCC unroll 4
        for (int u = 0; u < 4; ++u) add_outer(acc, end, k + u, b + u * NV * L);
    }
    for (; k != 0; ++k, b += ldb) add_outer(acc, end, k, b);
  }
  finish<T, M, NV>(acc, c, call);
}

template <class T, int M, int NV>
void columns_tile(const T* const* a, T* const* c, const TileCall<T>& call) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> acc[M][NV];
#pragma GCC unroll 32
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = zero<T>();
  const int64_t lda = call.lda, ldb = call.ldb;
  for (int64_t block = 0; block < call.blocks; ++block) {
    const T* x = a[0] + call.a_offset[block];
    const T* b = call.b + call.b_offset[block];
    for (int64_t k = call.depth; k != 0; --k, x += lda, b += ldb) {
      Vec<T> vb[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) vb[j] = load(b + j * L);
#pragma GCC unroll 32
      for (int i = 0; i < M; ++i) multiply_row(acc[i], x + i, vb);
    }
  }
  finish<T, M, NV>(acc, c, call);
}

// The sizes. An accumulator a (row, vector), the vectors of B and one broadcast must fit the registers; rows
// tiles also need a pointer a row, of which x86-64 has room for twelve. Wide tiles read less of A, high ones
// less of B.
#define ROWS(T, m, nv) {m, rows_tile<T, m, nv>}
#define COLUMNS(T, m, nv) {m, columns_tile<T, m, nv>}
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMaxVectors32 = 3, kMaxVectors64 = 2;
constexpr Tile<float> rows32[3][5] = {
    {ROWS(float, 12, 1), ROWS(float, 8, 1), ROWS(float, 6, 1), ROWS(float, 4, 1), ROWS(float, 1, 1)},
    {ROWS(float, 12, 2), ROWS(float, 8, 2), ROWS(float, 6, 2), ROWS(float, 4, 2), ROWS(float, 1, 2)},
    {ROWS(float, 8, 3), ROWS(float, 6, 3), ROWS(float, 4, 3), ROWS(float, 1, 3)}};
constexpr Tile<float> columns32[3][9] = {{COLUMNS(float, 14, 1), COLUMNS(float, 12, 1), COLUMNS(float, 8, 1),
                                          COLUMNS(float, 6, 1), COLUMNS(float, 5, 1), COLUMNS(float, 4, 1),
                                          COLUMNS(float, 3, 1), COLUMNS(float, 2, 1), COLUMNS(float, 1, 1)},
                                         {COLUMNS(float, 14, 2), COLUMNS(float, 12, 2), COLUMNS(float, 9, 2),
                                          COLUMNS(float, 8, 2), COLUMNS(float, 6, 2), COLUMNS(float, 4, 2),
                                          COLUMNS(float, 3, 2), COLUMNS(float, 2, 2), COLUMNS(float, 1, 2)},
                                         {COLUMNS(float, 8, 3), COLUMNS(float, 6, 3), COLUMNS(float, 4, 3),
                                          COLUMNS(float, 2, 3), COLUMNS(float, 1, 3)}};
constexpr Tile<double> rows64[2][3] = {{ROWS(double, 12, 1), ROWS(double, 4, 1), ROWS(double, 1, 1)},
                                       {ROWS(double, 12, 2), ROWS(double, 4, 2), ROWS(double, 1, 2)}};
constexpr Tile<double> columns64[2][3] = {
    {COLUMNS(double, 12, 1), COLUMNS(double, 4, 1), COLUMNS(double, 1, 1)},
    {COLUMNS(double, 12, 2), COLUMNS(double, 4, 2), COLUMNS(double, 1, 2)}};
#elif defined(__AVX2__)
constexpr int kMaxVectors32 = 3, kMaxVectors64 = 2;
constexpr Tile<float> rows32[3][4] = {{ROWS(float, 10, 1), ROWS(float, 4, 1), ROWS(float, 1, 1)},
                                      {ROWS(float, 6, 2), ROWS(float, 4, 2), ROWS(float, 1, 2)},
                                      {ROWS(float, 4, 3), ROWS(float, 1, 3)}};
constexpr Tile<float> columns32[3][4] = {{COLUMNS(float, 12, 1), COLUMNS(float, 4, 1), COLUMNS(float, 1, 1)},
                                         {COLUMNS(float, 6, 2), COLUMNS(float, 4, 2), COLUMNS(float, 1, 2)},
                                         {COLUMNS(float, 4, 3), COLUMNS(float, 1, 3)}};
constexpr Tile<double> rows64[2][3] = {{ROWS(double, 6, 1), ROWS(double, 1, 1)},
                                       {ROWS(double, 6, 2), ROWS(double, 1, 2)}};
constexpr Tile<double> columns64[2][3] = {{COLUMNS(double, 6, 1), COLUMNS(double, 1, 1)},
                                          {COLUMNS(double, 6, 2), COLUMNS(double, 1, 2)}};
#else
constexpr int kMaxVectors32 = 2, kMaxVectors64 = 2;
constexpr Tile<float> rows32[2][3] = {{ROWS(float, 4, 1), ROWS(float, 1, 1)},
                                      {ROWS(float, 4, 2), ROWS(float, 1, 2)}};
constexpr Tile<float> columns32[2][3] = {{COLUMNS(float, 4, 1), COLUMNS(float, 1, 1)},
                                         {COLUMNS(float, 4, 2), COLUMNS(float, 1, 2)}};
constexpr Tile<double> rows64[2][3] = {{ROWS(double, 4, 1), ROWS(double, 1, 1)},
                                       {ROWS(double, 4, 2), ROWS(double, 1, 2)}};
constexpr Tile<double> columns64[2][3] = {{COLUMNS(double, 4, 1), COLUMNS(double, 1, 1)},
                                          {COLUMNS(double, 4, 2), COLUMNS(double, 1, 2)}};
#endif

}  // namespace

template <>
int tile_max_vectors<float>() {
  return kMaxVectors32;
}
template <>
int tile_max_vectors<double>() {
  return kMaxVectors64;
}
template <>
const Tile<float>* row_tiles<float>(int nv) {
  return rows32[nv - 1];
}
template <>
const Tile<double>* row_tiles<double>(int nv) {
  return rows64[nv - 1];
}
template <>
const Tile<float>* column_tiles<float>(int nv) {
  return columns32[nv - 1];
}
template <>
const Tile<double>* column_tiles<double>(int nv) {
  return columns64[nv - 1];
}

}  // namespace cnnmath::CNNMATH_ISA
