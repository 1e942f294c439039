// Sums over the rows of a matrix: fixed chunks of rows, added in order in phase 1.
#include "core/kernel.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/parts.h"
#include "simd/vec.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA::column_sums {

namespace {

constexpr int64_t kBlock = 64;  // summed by themselves before they join the total: less rounding
constexpr int64_t kChunk = 128 << 10;

struct Shape {
  int64_t rows, columns;
};
const Shape& shape_of(const int64_t* p) { return *reinterpret_cast<const Shape*>(p); }

int64_t chunks_of(const int64_t* p) {
  const Shape& s = shape_of(p);
  return max_of(min_of(min_of(s.rows * s.columns / kChunk, 32), s.rows), 1);
}

}  // namespace

template <class T>
int phases(const int64_t* p) {
  return chunks_of(p) > 1 ? 2 : 1;
}
template <class T>
int64_t tasks(const int64_t* p, int phase) {
  return phase == 0 ? chunks_of(p) : 1;
}
template <class T>
int64_t workspace(const int64_t* p) {
  return chunks_of(p) * shape_of(p).columns * static_cast<int64_t>(sizeof(T));
}
template <class T>
int64_t scratch(const int64_t*) {
  return 0;
}

namespace {

// NV vectors of columns at `x`, summed over rows of `width`: blocks of rows, blocks of blocks, and these.
template <class T, int NV>
void sum_columns(const T* x, int64_t width, int64_t rows, int64_t columns, T* out) {
  constexpr int L = Vec<T>::lanes;
  Vec<T> total[NV], middle[NV];
  for (int v = 0; v < NV; ++v) total[v] = middle[v] = zero<T>();
  int64_t blocks = 0;
  for (int64_t r = 0; r < rows; r += kBlock) {
    Vec<T> sum[NV];
    for (int v = 0; v < NV; ++v) sum[v] = zero<T>();
    const int64_t end = min_of(r + kBlock, rows);
    for (int64_t k = r; k < end; ++k)
      for (int v = 0; v < NV; ++v)
        sum[v] = sum[v] + (NV > 1 ? load(x + k * width + v * L) : load_n(x + k * width, columns));
    for (int v = 0; v < NV; ++v) middle[v] = middle[v] + sum[v];
    if (++blocks % kBlock != 0) continue;
    for (int v = 0; v < NV; ++v) {
      total[v] = total[v] + middle[v];
      middle[v] = zero<T>();
    }
  }
  for (int v = 0; v < NV; ++v) store_n(out + v * L, total[v] + middle[v], columns - v * L);
}

}  // namespace

template <class T>
void run(const Task& t) {
  constexpr int L = Vec<T>::lanes;
  const Shape& s = shape_of(t.p);
  const int64_t chunks = chunks_of(t.p);
  const T* x = static_cast<const T*>(t.a[0]);
  T* y = static_cast<T*>(t.a[1]);
  int64_t begin = s.rows * t.index / chunks, end = s.rows * (t.index + 1) / chunks;
  if (chunks > 1 && t.phase == 0) y = static_cast<T*>(t.workspace) + t.index * s.columns;
  if (t.phase == 1) {
    x = static_cast<const T*>(t.workspace);
    begin = 0;
    end = chunks;
  }
  x += begin * s.columns;
  int64_t c = 0;
  for (; c + 4 * L <= s.columns; c += 4 * L) sum_columns<T, 4>(x + c, s.columns, end - begin, 4 * L, y + c);
  for (; c < s.columns; c += L)
    sum_columns<T, 1>(x + c, s.columns, end - begin, min_of(s.columns - c, L), y + c);
}

#define INSTANTIATE(T)                            \
  template int phases<T>(const int64_t*);         \
  template int64_t tasks<T>(const int64_t*, int); \
  template int64_t workspace<T>(const int64_t*);  \
  template int64_t scratch<T>(const int64_t*);    \
  template void run<T>(const Task&);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace cnnmath::CNNMATH_ISA::column_sums
