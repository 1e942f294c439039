// How a product is cut.
//
// Phase `pack` (if needed): B into panels as wide as the tile, [panel][k][columns]; where C is one block of rows, every
// panel is read by one task alone, which packs it piece by piece while it is near. Phase `sum`: tasks over
// blocks of rows x a few panels x chunks of k; a task goes over its part of k in pieces, so that a panel of B
// and the rows of A stay near. Phase `combine` (more than one chunk): partial products added in order, then
// bias and act. k is cut in chunks only where C is too small to feed a handful of tasks. All of it follows
// from the shape.
#include "core/kernel.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/matmul_split.h"
#include "kernels/gemm/parts.h"
#include "kernels/tile/pack.h"
#include "kernels/tile/tile.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA::matmul {

namespace {

const MatmulShape& shape_of(const int64_t* p) { return *reinterpret_cast<const MatmulShape*>(p); }

constexpr int64_t kTaskFlops = int64_t{kVecBytes} << 17;   // about 80 us
constexpr int64_t kLeastFlops = int64_t{kVecBytes} << 14;  // less is not worth a task of its own
constexpr int64_t kRows = 128;
constexpr int64_t kPiece = 1024;        // of k
constexpr int64_t kSkew = 16;           // keeps copied rows from falling on the same cache sets
constexpr int64_t kPackRows = 64;       // of B, in a task of phase `pack`
constexpr int64_t kCombine = 16 << 10;  // elements of C in a task of phase `combine`

constexpr int64_t kTogether = 4;  // panels, where a few of them fit L1
constexpr int64_t kTogetherBytes = 32 << 10;

enum class Rows { in_place, copied, columns };  // how A is read

template <class T>
struct MatmulPlan {
  bool packs;
  bool packs_ahead;  // in a phase of its own, for all tasks
  Rows a;
  Panels<T> panels;
  int64_t rows, task_panels, row_blocks, panel_blocks;
  int64_t chunks;  // of k
  int64_t piece;
  int64_t together;  // panels
  int64_t tasks() const { return chunks * row_blocks * panel_blocks; }
  bool chunks_are_pieces;
  int64_t begin(int64_t k, int64_t chunk) const {
    return chunks_are_pieces ? min_of(chunk * piece, k) : k * chunk / chunks;
  }
};

template <class T>
MatmulPlan<T> plan(const MatmulShape& s) {
  MatmulPlan<T> f{};
  constexpr int L = Vec<T>::lanes;
  f.panels = panels_of<T>(max_of(s.n, 1));
  const int64_t flops = 2 * s.m * f.panels.padded() * max_of(s.k, 1);
  const int64_t each = max_of(min_of(flops / 8, kTaskFlops), kLeastFlops);
  f.chunks = 1;
  // Rows of B at such distances fall on the same cache sets, and are read anew for every tile of rows.
  const bool aliased = s.n * static_cast<int64_t>(sizeof(T)) % 2048 == 0 && s.m >= 24 && s.k >= 32;
  f.packs = s.tb || s.n % L != 0 || (f.panels.count > 1 && (aliased || (s.m > 96 && flops > 4 * kTaskFlops)));
  const bool near =
      (s.ta ? s.m : s.k) * static_cast<int64_t>(sizeof(T)) % 1024 != 0;  // rows on different cache sets
  f.a = s.ta ? (s.m * s.k > (s.n >= 128 ? 32 << 10 : 1 << 20) ? Rows::copied : Rows::columns)
             : (near || s.n < 64 || s.m * s.k < (128 << 10) ? Rows::in_place : Rows::copied);
  const int64_t fewest = ceil_div(s.k, kPiece);
  f.piece =
      s.k > kPiece + kPiece / 2 ? ceil_div(s.k, fewest > 4 ? round_up(fewest, 4) : fewest) : max_of(s.k, 1);
  // Blocks of C.
  const int64_t panel_flops = 2 * f.panels.width() * max_of(s.k, 1);
  f.rows = min_of(kRows, max_of(s.m, 1));
  if (f.panels.count == 1) f.rows = min_of(f.rows, max_of(each / panel_flops, 24));
  f.row_blocks = ceil_div(s.m, f.rows);
  if (f.row_blocks) f.rows = ceil_div(s.m, f.row_blocks);
  // Panels that share a copy: all of them where the blocks of rows alone make tasks enough.
  const int64_t least = f.a != Rows::copied ? 1 : f.row_blocks >= 8 ? f.panels.count : 8;
  f.task_panels = min_of(max_of(each / (panel_flops * f.rows), least), f.panels.count);
  f.panel_blocks = ceil_div(f.panels.count, f.task_panels);
  f.task_panels = ceil_div(f.panels.count, f.panel_blocks);
  f.packs_ahead = f.packs && (f.row_blocks > 1 || (s.lasting && !s.ta));
  const int64_t panel_bytes = f.piece * f.panels.width() * static_cast<int64_t>(sizeof(T));
  f.together = f.packs && !f.packs_ahead ? max_of(min_of(kTogetherBytes / panel_bytes, kTogether), 1) : 1;
  const int64_t blocks = f.row_blocks * f.panel_blocks;
  const int64_t pieces = ceil_div(max_of(s.k, 1), f.piece);
  const bool long_rows =
      !s.ta && !s.accumulate && blocks && blocks < 8 && s.n <= 256 && pieces >= 4 && pieces <= 16;
  if (long_rows && s.lasting) {  // no chunks, whose products change from run to run
    f.task_panels = 1;
    f.panel_blocks = f.panels.count;
  } else if (long_rows) {
    // Long rows of A for few columns: a copy for each chunk, not for each panel. A chunk is a piece, which gives the bits that piece
    // after piece gives: a row of C does not depend on how many rows there are.
    f.chunks = pieces;
    f.chunks_are_pieces = true;
    f.task_panels = f.panels.count;
    f.panel_blocks = 1;
  } else if (s.ta && blocks && blocks < 8 && s.k >= 2 * kPiece)
    f.chunks = max_of(min_of(min_of(ceil_div(16, blocks), s.k / kPiece), flops / kLeastFlops), 1);
  return f;
}

// Rows of B are read from end to end; of a transposed B, the rows that make one panel.
template <class T>
int64_t pack_tasks(const MatmulShape& s, const MatmulPlan<T>& f) {
  return s.tb ? f.panels.count : ceil_div(s.k, kPackRows);
}

template <class T>
void pack(const MatmulShape& s, const MatmulPlan<T>& f, const T* b, T* packed, int64_t index) {
  const int64_t l0 = s.tb ? 0 : index * kPackRows, l1 = s.tb ? s.k : min_of(l0 + kPackRows, s.k);
  for (int64_t j = s.tb ? index : 0; j < (s.tb ? index + 1 : f.panels.count); ++j) {
    const int64_t width = int64_t{f.panels.vectors(j)} * Vec<T>::lanes, column = f.panels.begin(j);
    pack_panel(packed + s.k * column + l0 * width, width, s.tb ? b + column * s.k : b + l0 * s.n + column,
               s.tb ? 1 : s.n, s.tb ? s.k : 1, l1 - l0, f.panels.columns(j));
  }
}

template <class T>
int64_t packed_bytes(const MatmulShape& s, const MatmulPlan<T>& f) {
  return f.packs_ahead ? round_up(s.k * f.panels.padded() * static_cast<int64_t>(sizeof(T)), 64) : 0;
}

}  // namespace

// The shapes that go to a matrix unit.
#if defined(__AMX_BF16__)
#define SPLIT(function, ...)              \
  if constexpr (sizeof(T) == 4)           \
    if (matmul_split::takes(shape_of(p))) \
  return matmul_split::function(shape_of(p) __VA_OPT__(, ) __VA_ARGS__)
#else
#define SPLIT(function, ...)
#endif

template <class T>
int phases(const int64_t* p) {
  SPLIT(phases);
  const MatmulPlan<T> f = plan<T>(shape_of(p));
  return f.packs_ahead + 1 + (f.chunks > 1);
}

// Where chunks are combined, the workspace holds their products as well.
template <class T>
int packing(const int64_t* p) {
  SPLIT(packing);
  const MatmulPlan<T> f = plan<T>(shape_of(p));
  return f.packs_ahead && f.chunks == 1;
}

static bool small(const MatmulShape& s) { return 2 * s.m * s.n * s.k <= (int64_t{1} << 20); }

template <class T>
int64_t tasks(const int64_t* p, int phase) {
  SPLIT(tasks, phase);
  const MatmulShape& s = shape_of(p);
  const MatmulPlan<T> f = plan<T>(s);
  if (small(s)) return 1;
  if (f.packs_ahead && phase == 0) return pack_tasks(s, f);
  return phase == f.packs_ahead ? f.tasks() : ceil_div(s.m * s.n, kCombine);
}

template <class T>
int64_t workspace(const int64_t* p) {
  SPLIT(workspace);
  const MatmulShape& s = shape_of(p);
  const MatmulPlan<T> f = plan<T>(s);
  const int64_t partial = f.chunks > 1 ? f.chunks * s.m * s.n * static_cast<int64_t>(sizeof(T)) : 0;
  return packed_bytes(s, f) + partial;
}

// Bytes of a task's copy of rows of A; behind it lies its piece of a panel of B.
template <class T>
static int64_t copy_bytes(const MatmulPlan<T>& f) {
  return f.a == Rows::copied ? round_up(f.rows * (f.piece + kSkew) * static_cast<int64_t>(sizeof(T)), 64) : 0;
}

template <class T>
int64_t scratch(const int64_t* p) {
  SPLIT(scratch);
  const MatmulPlan<T> f = plan<T>(shape_of(p));
  const int64_t widest = max_of(f.panels.wide, f.panels.last);
  return copy_bytes(f) + (f.packs && !f.packs_ahead ? f.together * f.piece * widest * kVecBytes : 0);
}

namespace {

// Rows [i0, i1) of A, l in [l0, l1), to rows of `step` numbers.
template <class T>
void copy_rows(const MatmulShape& s, const T* a, int64_t i0, int64_t i1, int64_t l0, int64_t l1, T* out,
               int64_t step) {
  constexpr int L = Vec<T>::lanes;
  if (!s.ta) {
    for (int64_t i = i0; i < i1; ++i) copy_run(out + (i - i0) * step, a + i * s.k + l0, l1 - l0);
    return;
  }
  for (int64_t i = i0; i < i1; i += L) {
    for (int64_t l = l0; l < l1; l += L) {
      const int64_t height = min_of(i1 - i, L), width = min_of(l1 - l, L);
      Vec<T> square[L];
#pragma GCC unroll 16
      for (int q = 0; q < L; ++q) square[q] = q < width ? load_n(a + (l + q) * s.m + i, height) : zero<T>();
      transpose(square);
#pragma GCC unroll 16
      for (int q = 0; q < L; ++q)
        if (q < height) store_n(out + (i - i0 + q) * step + l - l0, square[q], width);
    }
  }
}

template <class T>
struct Operands {
  const T* a;
  const T* b;  // packed, or as it is
  const T* bias;
  T* c;
  int64_t accumulate, relu;
  T* copy;   // scratch: rows of A
  T* panel;  // and a piece of a panel of B
};

// The panels of B that a task packs next: fetched bit by bit while it multiplies, for rows that lie far apart come slowly.
template <class T>
class Ahead {
 public:
  Ahead(const T* from, int64_t rows, int64_t step, int64_t length, int64_t times)
      : from_(from),
        step_(step),
        lines_(ceil_div(length * static_cast<int64_t>(sizeof(T)), 64)),
        left_(rows * lines_),
        each_(ceil_div(left_, max_of(times, 1))) {}
  void fetch() {
    for (int64_t i = 0; i < each_ && left_ > 0; ++i, --left_) {
      __builtin_prefetch(from_ + line_ * (64 / static_cast<int64_t>(sizeof(T))), 0, 2);
      if (++line_ == lines_) line_ = 0, from_ += step_;
    }
  }

 private:
  const T* from_;
  int64_t step_, lines_, left_, each_, line_ = 0;
};

// One block of C over l in [from, to).
template <class T>
void sum_block(const MatmulShape& s, const MatmulPlan<T>& f, const Operands<T>& o, int64_t i0, int64_t i1,
               int64_t panel0, int64_t panel1, int64_t from, int64_t to) {
  const bool columns = f.a == Rows::columns;
  const int64_t zero_offset = 0, step = f.piece + kSkew;
  for (int64_t l = from; l == from || l < to; l += f.piece) {
    const int64_t end = min_of(l + f.piece, to);
    if (f.a == Rows::copied) copy_rows(s, o.a, i0, i1, l, end, o.copy, step);
    for (int64_t j0 = panel0; j0 < panel1;) {
      // Panels of one width that go along the rows of C together.
      const int nv = f.panels.vectors(j0);
      int64_t j1 = j0 + 1;
      while (j1 < min_of(j0 + f.together, panel1) && f.panels.vectors(j1) == nv) ++j1;
      const int64_t ldb = f.packs ? int64_t{nv} * Vec<T>::lanes : s.n;
      const T* b[kTogether];
      for (int64_t j = j0; j < j1; ++j) {
        const int64_t column = f.panels.begin(j);
        const T*& at = b[j - j0];
        at = f.packs_ahead ? o.b + s.k * column + l * ldb
             : s.tb        ? o.b + column * s.k + l
                           : o.b + l * s.n + column;
        if (f.packs && !f.packs_ahead) {
          T* panel = o.panel + (j - j0) * f.piece * ldb;
          pack_panel(panel, ldb, at, s.tb ? 1 : s.n, s.tb ? s.k : 1, end - l, f.panels.columns(j));
          at = panel;
        }
      }
      const bool last = end >= to;
      const int64_t next_j = min_of(j1 + f.together, panel1);
      const bool more = f.packs && !f.packs_ahead && !s.tb && next_j > j1;
      const int64_t tiles = ceil_div(i1 - i0, kTallestTile) * (j1 - j0);
      Ahead<T> ahead(
          o.b + l * s.n + f.panels.begin(j1), more ? end - l : 0, s.n,
          more ? f.panels.begin(next_j - 1) + f.panels.columns(next_j - 1) - f.panels.begin(j1) : 0, tiles);
      const Deal<T> deal(columns ? column_tiles<T>(nv) : row_tiles<T>(nv), nv, columns);
      for (int64_t i = i0; i < i1;) {
        const Tile<T>& tile = deal.next(i1 - i);
        const T* a[16];
        T* c[16];
        for (int r = 0; r < tile.m; ++r) {
          const int64_t row = min_of(i + r, i1 - 1);
          a[r] = columns               ? o.a + l * s.m + row
                 : f.a == Rows::copied ? o.copy + (row - i0) * step
                                       : o.a + row * s.k + l;
          c[r] = o.c + row * s.n;
        }
        for (int64_t j = j0; j < j1; ++j) {
          ahead.fetch();
          tile.run(a, c,
                   {1, &zero_offset, &zero_offset, end - l, b[j - j0], ldb, s.m, f.panels.begin(j),
                    f.panels.columns(j), last && o.bias ? o.bias + f.panels.begin(j) : nullptr,
                    l > from || o.accumulate, last && o.relu});
        }
        i += tile.m;
      }
      j0 = j1;
    }
  }
}

// C in [begin, end) from the chunks' products, added in order, then what C held, then bias and act. Along rows of C, so that the bias is by
// vectors.
template <class T>
void combine(const MatmulShape& s, const T* partial, int64_t chunks, const T* bias, T* c, int64_t begin,
             int64_t end) {
  constexpr int L = Vec<T>::lanes;
  while (begin < end) {
    const int64_t j = begin % s.n, left = s.n - j < end - begin ? s.n - j : end - begin;
    const int64_t n = left < L ? left : L;
    Vec<T> sum = load_n(partial + begin, n);
    for (int64_t k = 1; k < chunks; ++k) sum = sum + load_n(partial + k * s.m * s.n + begin, n);
    if (s.accumulate) sum = sum + load_n(c + begin, n);
    if (bias) sum = sum + load_n(bias + j, n);
    if (s.relu) sum = max(zero<T>(), sum);
    store_n(c + begin, sum, n);
    begin += n;
  }
}

}  // namespace

template <class T>
void run(const Task& t) {
  [[maybe_unused]] const int64_t* p = t.p;
  SPLIT(run, t);
  const MatmulShape& s = shape_of(t.p);
  const MatmulPlan<T> f = plan<T>(s);
  Operands<T> o{static_cast<const T*>(t.a[0]),
                static_cast<const T*>(t.a[1]),
                static_cast<const T*>(t.a[2]),
                static_cast<T*>(t.a[3]),
                s.accumulate,
                s.relu,
                static_cast<T*>(t.scratch),
                reinterpret_cast<T*>(static_cast<char*>(t.scratch) + copy_bytes(f))};
  T* packed = static_cast<T*>(t.workspace);
  T* partial = reinterpret_cast<T*>(static_cast<char*>(t.workspace) + packed_bytes(s, f));
  const bool all = small(s);
  if (f.packs_ahead && t.phase == 0) {
    for (int64_t i = all ? 0 : t.index; i < (all ? pack_tasks(s, f) : t.index + 1); ++i)
      pack(s, f, o.b, packed, i);
    return;
  }
  if (f.packs_ahead) o.b = packed;
  if (t.phase == f.packs_ahead) {
    for (int64_t index = all ? 0 : t.index; index < (all ? f.tasks() : t.index + 1); ++index) {
      const int64_t panel0 = index % f.panel_blocks * f.task_panels;
      const int64_t panel1 = min_of(panel0 + f.task_panels, f.panels.count);
      const int64_t i0 = index / f.panel_blocks % f.row_blocks * f.rows, i1 = min_of(i0 + f.rows, s.m);
      const int64_t chunk = index / f.panel_blocks / f.row_blocks;
      Operands<T> part = o;
      if (f.chunks > 1) {
        part.c = partial + chunk * s.m * s.n;
        part.bias = nullptr;
        part.accumulate = part.relu = 0;
      }
      if (s.n) sum_block(s, f, part, i0, i1, panel0, panel1, f.begin(s.k, chunk), f.begin(s.k, chunk + 1));
    }
    return;
  }
  combine(s, partial, f.chunks, o.bias, o.c, all ? 0 : t.index * kCombine,
          all ? s.m * s.n : min_of((t.index + 1) * kCombine, s.m * s.n));
}

#define INSTANTIATE(T)                            \
  template int phases<T>(const int64_t*);         \
  template int64_t tasks<T>(const int64_t*, int); \
  template int64_t workspace<T>(const int64_t*);  \
  template int64_t scratch<T>(const int64_t*);    \
  template void run<T>(const Task&);              \
  template int packing<T>(const int64_t*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace cnnmath::CNNMATH_ISA::matmul
