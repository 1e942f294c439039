// How the product is cut: into tasks over blocks of rows x blocks of columns. (Where matmul.cpp cuts k too, C is smaller
// than what comes here.)
//
// Phases `pack` split the operands that more than one task reads: B as [panel][block of k][tile of columns][plane], A as [tile of
// rows][block of k][plane]. Phase `sum`: a task splits what it alone reads, A piece by piece of k, B panel by panel, multiplies, and
// collects C in scratch; then come the rows and columns that could not be split, what C held, bias and act.
#include "kernels/gemm/matmul_split.h"

#if defined(__AMX_BF16__)
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA::matmul_split {

namespace {

constexpr int64_t kRows = 128;           // of A in a task
constexpr int64_t kColumns = 1024;       // of B in a task, at most
constexpr int64_t kPanel = 32;           // columns
constexpr int64_t kPiece = 32;           // blocks of k: the rows of A stay in the second-level cache
constexpr int64_t kTaskFlops = 8 << 20;  // about 10 us

struct Plan {
  int64_t rows, columns;  // of a task
  int64_t row_blocks, column_blocks;
  int64_t blocks;            // of k
  int64_t row_tiles, tiles;  // of 16 rows, of 16 columns
  int64_t piece;             // blocks of k in a piece
  bool packs_a, packs_b;     // ahead
  // Packed B: panel p begins at tile 2 p; tile t, block l.
  int64_t tiles_of(int64_t panel) const { return min_of(tiles - 2 * panel, 2); }
  // Sums of all panels are kept from piece to piece.
  bool collects() const { return piece < blocks; }
  int64_t packed_tiles() const { return (packs_a ? row_tiles : 0) + (packs_b ? tiles : 0); }
  int64_t packed_bytes() const { return packed_tiles() * blocks * kSplitBlock; }
  int64_t wild_bytes() const { return round_up(packed_tiles() * blocks * 4, 64); }
};

Plan plan(const MatmulShape& s) {
  Plan f{};
  f.blocks = ceil_div(s.k, kSplitDepth);
  f.row_tiles = ceil_div(s.m, kSplitLanes);
  f.tiles = ceil_div(s.n, kSplitLanes);
  f.row_blocks = ceil_div(s.m, kRows);
  f.rows = ceil_div(ceil_div(s.m, f.row_blocks), 2 * kSplitLanes) * 2 * kSplitLanes;
  f.row_blocks = ceil_div(s.m, f.rows);
  // Columns that share a splitting of A: all of them where the blocks of rows alone make tasks enough.
  const int64_t flops = 2 * f.rows * kPanel * max_of(s.k, 1), panels = ceil_div(f.tiles, 2);
  // Where B is packed once for many runs, every task splits its rows of A: what changes from run to run must not lie beside it.
  const int64_t tasks = s.lasting ? 4 : 8;
  const int64_t wanted = f.row_blocks >= tasks
                             ? panels
                             : max_of(kTaskFlops / flops, ceil_div(panels, ceil_div(tasks, f.row_blocks)));
  f.column_blocks = ceil_div(panels, min_of(max_of(wanted, 1), kColumns / kPanel));
  f.columns = ceil_div(panels, f.column_blocks) * kPanel;
  f.column_blocks = ceil_div(s.n, f.columns);
  f.packs_a = f.column_blocks > 1 && !s.lasting;
  f.packs_b = f.row_blocks > 1 || s.lasting;
  f.piece = f.blocks > kPiece ? ceil_div(f.blocks, ceil_div(f.blocks, kPiece)) : f.blocks;
  return f;
}

// Scratch of a task.
struct Room {
  char* a;   // [tile of rows][block of k][plane]
  char* b;   // one panel: [block of k][tile of columns][plane]
  float* c;  // [panel][tile of rows][tile of columns]
};
int64_t a_bytes(const Plan& f) { return f.packs_a ? 0 : f.piece * (f.rows / kSplitLanes) * kSplitBlock; }
int64_t b_bytes(const Plan& f) { return f.packs_b ? 0 : f.piece * 2 * kSplitBlock; }
int64_t c_bytes(const Plan& f) { return f.rows * (f.collects() ? f.columns : kPanel) * 4; }

struct Operands {
  const float* a;
  const float* b;
  const float* bias;
  float* c;
  char *packed_a, *packed_b;
  uint32_t *wild_a, *wild_b;  // [tile][block of k]
};

const float* at_a(const MatmulShape& s, const float* a, int64_t i, int64_t l) {
  return s.ta ? a + l * s.m + i : a + i * s.k + l;
}
const float* at_b(const MatmulShape& s, const float* b, int64_t l, int64_t j) {
  return s.tb ? b + j * s.k + l : b + l * s.n + j;
}

// Block l of a tile.
uint32_t pack_a(const MatmulShape& s, const float* a, char* to, int64_t tile, int64_t l) {
  const int64_t i = tile * kSplitLanes, k = l * kSplitDepth;
  return split_a(to, at_a(s, a, i, k), s.ta ? Lie::along_i : Lie::along_k, s.ta ? s.m : s.k,
                 min_of(s.m - i, kSplitLanes), min_of(s.k - k, kSplitDepth));
}
uint32_t pack_b(const MatmulShape& s, const float* b, char* to, int64_t tile, int64_t l) {
  const int64_t j = tile * kSplitLanes, k = l * kSplitDepth;
  return split_b(to, at_b(s, b, k, j), s.tb ? Lie::along_k : Lie::along_i, s.tb ? s.k : s.n,
                 min_of(s.n - j, kSplitLanes), min_of(s.k - k, kSplitDepth), Pairs::apart);
}

// Tasks of the phases `pack`: rows that lie along k from end to end, others a block of k at a time.
int64_t pack_a_tasks(const MatmulShape& s, const Plan& f) { return s.ta ? f.blocks : f.row_tiles; }
int64_t pack_b_tasks(const MatmulShape& s, const Plan& f) { return s.tb ? f.tiles : f.blocks; }

void pack_a_task(const MatmulShape& s, const Plan& f, const Operands& o, int64_t task) {
  for (int64_t i = 0; i < (s.ta ? f.row_tiles : f.blocks); ++i) {
    const int64_t tile = s.ta ? i : task, block = s.ta ? task : i, at = tile * f.blocks + block;
    o.wild_a[at] = pack_a(s, o.a, o.packed_a + at * kSplitBlock, tile, block);
  }
}

void pack_b_task(const MatmulShape& s, const Plan& f, const Operands& o, int64_t task) {
  for (int64_t i = 0; i < (s.tb ? f.blocks : f.tiles); ++i) {
    const int64_t tile = s.tb ? task : i, block = s.tb ? i : task, panel = tile / 2;
    char* to = o.packed_b + (2 * panel * f.blocks + block * f.tiles_of(panel) + tile % 2) * kSplitBlock;
    o.wild_b[tile * f.blocks + block] = pack_b(s, o.b, to, tile, block);
  }
}

// One number of C by itself, for those that the unit cannot give; a sum that is NaN stays so.
float dot(const MatmulShape& s, const Operands& o, int64_t i, int64_t j) {
  const int64_t step_a = s.ta ? s.m : 1, step_b = s.tb ? 1 : s.n;
  const float *a = at_a(s, o.a, i, 0), *b = at_b(s, o.b, 0, j);
  float sum = 0;
  for (int64_t l = 0; l < s.k && sum == sum; ++l, a += step_a, b += step_b) sum = fma(*a, *b, sum);
  return sum;
}

// A task: rows [i0, i1), columns [j0, j1).
struct Part {
  int64_t i0, i1, j0, j1;
  int64_t row_tiles() const { return ceil_div(i1 - i0, kSplitLanes); }
};

// A tile of sums to C, rows [i, i1) and columns [j, j1); `wild` has bits for rows and columns whose numbers are to be computed by
// themselves.
void finish(const MatmulShape& s, const Operands& o, const float* sums, int64_t i, int64_t i1, int64_t j,
            int64_t j1, uint32_t wild_rows, uint32_t wild_columns) {
  const int64_t n = j1 - j;
  const Vec<float> bias = o.bias ? load_n(o.bias + j, n) : zero<float>();
  float* c = o.c + i * s.n + j;
  for (; i < i1; ++i, sums += kSplitLanes, c += s.n, wild_rows >>= 1) {
    Vec<float> v = load(sums);
    if (const uint32_t wild = wild_rows & 1 ? 0xffff : wild_columns) {
      float line[kSplitLanes];
      store(line, v);
      for (int64_t q = 0; q < n; ++q)
        if (wild >> q & 1) line[q] = dot(s, o, i, j + q);
      v = load(line);
    }
    if (s.accumulate) v = v + load_n(c, n);
    if (o.bias) v = v + bias;
    if (s.relu) v = max(zero<float>(), v);
    if (n == kSplitLanes)
      store(c, v);
    else
      store_n(c, v, n);
  }
}

void sum(const MatmulShape& s, const Plan& f, const Operands& o, const Room& room, const Part& part) {
  const int64_t row_tiles = part.row_tiles(), first_tile = part.i0 / kSplitLanes;
  const int64_t first_panel = part.j0 / kPanel, end_panel = ceil_div(part.j1, kPanel);
  int64_t a_offset[kPiece], b_offset[2][kPiece];
  for (int64_t q = 0; q < kPiece; ++q) {
    a_offset[q] = q * kSplitBlock;
    for (int64_t w = 0; w < 2; ++w) b_offset[w][q] = q * (w + 1) * kSplitBlock;
  }
  const bool plain = !f.collects() && !s.accumulate && !o.bias && !s.relu;
  uint32_t wild_rows[kRows / kSplitLanes] = {}, wild_columns[kColumns / kSplitLanes] = {};
  for (int64_t l = 0; l < f.blocks; l += f.piece) {
    const int64_t end = min_of(l + f.piece, f.blocks), count = end - l;
    const char* a = f.packs_a ? o.packed_a + (first_tile * f.blocks + l) * kSplitBlock : room.a;
    const int64_t a_tile = (f.packs_a ? f.blocks : f.piece) * kSplitBlock;
    for (int64_t r = 0; r < row_tiles; ++r) {
      for (int64_t q = l; q < end; ++q)
        wild_rows[r] |= f.packs_a
                            ? o.wild_a[(first_tile + r) * f.blocks + q]
                            : pack_a(s, o.a, room.a + r * a_tile + (q - l) * kSplitBlock, first_tile + r, q);
    }
    for (int64_t panel = first_panel; panel < end_panel; ++panel) {
      const int64_t width = f.tiles_of(panel), local = 2 * (panel - first_panel);
      uint32_t* wild = wild_columns + local;
      const char* b = f.packs_b ? o.packed_b + (2 * panel * f.blocks + l * width) * kSplitBlock : room.b;
      for (int64_t w = 0; w < width; ++w) {
        const int64_t tile = 2 * panel + w;
        for (int64_t q = l; q < end; ++q)
          wild[w] |= f.packs_b ? o.wild_b[tile * f.blocks + q]
                               : pack_b(s, o.b, room.b + ((q - l) * width + w) * kSplitBlock, tile, q);
      }
      SplitCall call{count, a_offset, 64, kSplitTile, b, b_offset[width - 1], kSplitBlock, kSplitTile, l > 0};
      float* sums = room.c + (f.collects() ? local * row_tiles * kSplitNumbers : 0);
      const int64_t j = panel * kPanel, end_j = min_of(j + width * kSplitLanes, s.n),
                    step = width * kSplitNumbers;
      for (int64_t r = 0; r < row_tiles; r += 2) {
        const int64_t i = part.i0 + r * kSplitLanes, height = min_of(row_tiles - r, 2);
        const char* rows[2] = {a + r * a_tile, a + (r + 1) * a_tile};
        float* out[2] = {sums + r * step, sums + (r + 1) * step};
        // Whole tiles that are nothing but sums go to C at once.
        const bool whole = i + height * kSplitLanes <= part.i1 && j + width * kSplitLanes <= s.n;
        const bool odd =
            (wild_rows[r] | (height > 1 ? wild_rows[r + 1] : 0) | wild[0] | (width > 1 ? wild[1] : 0)) != 0;
        const bool at_once = plain && whole && !odd;
        if (at_once)
          for (int64_t q = 0; q < 2; ++q) out[q] = o.c + (i + q * kSplitLanes) * s.n + j;
        call.c_row = at_once ? s.n * 4 : 64;
        call.c_tile = at_once ? 64 : kSplitTile;
        split_tile(static_cast<int>(height), static_cast<int>(width))(rows, out, call);
        for (int64_t q = 0; !at_once && end == f.blocks && q < height * width; ++q) {
          const int64_t tile = r + q / width, row = part.i0 + tile * kSplitLanes,
                        column = j + q % width * kSplitLanes;
          finish(s, o, out[0] + q * kSplitNumbers, row, min_of(row + kSplitLanes, part.i1), column,
                 min_of(column + kSplitLanes, end_j), wild_rows[tile], wild[q % width]);
        }
      }
    }
  }
}

}  // namespace

bool takes(const MatmulShape& s) {
  // Splitting an operand costs about as much as 128 products a number. Not by m, unless A is transposed and m no batch: a row
  // of C must not depend on how many there are.
  return s.m > 0 && s.n >= 256 && (s.ta ? s.m >= 256 && s.k >= 64 : s.k >= 256);
}

int phases(const MatmulShape& s) {
  const Plan f = plan(s);
  return f.packs_b + f.packs_a + 1;
}
// Where A is packed, too, the workspace changes from run to run.
int packing(const MatmulShape& s) {
  const Plan f = plan(s);
  return f.packs_b && !f.packs_a;
}

int64_t tasks(const MatmulShape& s, int phase) {
  const Plan f = plan(s);
  if (f.packs_b && phase == 0) return pack_b_tasks(s, f);
  if (f.packs_a && phase == f.packs_b) return pack_a_tasks(s, f);
  return f.row_blocks * f.column_blocks;
}

int64_t workspace(const MatmulShape& s) {
  const Plan f = plan(s);
  return f.packed_bytes() + f.wild_bytes();
}

int64_t scratch(const MatmulShape& s) {
  const Plan f = plan(s);
  return a_bytes(f) + b_bytes(f) + c_bytes(f);
}

void run(const MatmulShape& s, const Task& t) {
  const Plan f = plan(s);
  char *packed = static_cast<char*>(t.workspace), *scratch = static_cast<char*>(t.scratch);
  uint32_t* wild = reinterpret_cast<uint32_t*>(packed + f.packed_bytes());
  const int64_t b_tiles = f.packs_b ? f.tiles * f.blocks : 0;
  const Operands o{static_cast<const float*>(t.a[0]),
                   static_cast<const float*>(t.a[1]),
                   static_cast<const float*>(t.a[2]),
                   static_cast<float*>(t.a[3]),
                   packed + b_tiles * kSplitBlock,
                   packed,
                   wild + b_tiles,
                   wild};
  if (f.packs_b && t.phase == 0) return pack_b_task(s, f, o, t.index);
  if (f.packs_a && t.phase == f.packs_b) return pack_a_task(s, f, o, t.index);
  const int64_t i0 = t.index / f.column_blocks * f.rows, j0 = t.index % f.column_blocks * f.columns;
  const Room room{scratch, scratch + a_bytes(f), reinterpret_cast<float*>(scratch + a_bytes(f) + b_bytes(f))};
  const SplitUnit unit;
  sum(s, f, o, room, {i0, min_of(i0 + f.rows, s.m), j0, min_of(j0 + f.columns, s.n)});
}

}  // namespace cnnmath::CNNMATH_ISA::matmul_split
#endif
