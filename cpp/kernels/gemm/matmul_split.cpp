// How the product is cut: into tasks over blocks of rows x blocks of columns. (Where matmul.cpp cuts k too, C is smaller
// than what comes here.)
//
// Phase `pack` (more than one block of rows): B as the unit reads it, [panel][block of k][tile of columns][plane]. Phase
// `sum`: a task splits its rows of A piece by piece of k, and where it alone reads B its columns of B too,
// multiplies, and collects C in scratch; then come the rows and columns that could not be split, what C held, bias
// and act.
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
  int64_t blocks;  // of k
  int64_t tiles;   // of 16 columns
  int64_t piece;   // blocks of k in a piece
  bool packs_ahead;
  // Packed B: panel p begins at tile 2 p; tile t, block l.
  int64_t tiles_of(int64_t panel) const { return min_of(tiles - 2 * panel, 2); }
  // Sums of all panels are kept from piece to piece.
  bool collects() const { return piece < blocks; }
  int64_t packed_bytes() const { return packs_ahead ? tiles * blocks * kSplitBlock : 0; }
  int64_t wild_bytes() const { return packs_ahead ? round_up(tiles * blocks * 4, 64) : 0; }
};

Plan plan(const MatmulShape& s) {
  Plan f{};
  f.blocks = ceil_div(s.k, kSplitDepth);
  f.tiles = ceil_div(s.n, kSplitLanes);
  f.row_blocks = ceil_div(s.m, kRows);
  f.rows = ceil_div(ceil_div(s.m, f.row_blocks), 2 * kSplitLanes) * 2 * kSplitLanes;
  f.row_blocks = ceil_div(s.m, f.rows);
  // Columns that share a splitting of A: all of them where the blocks of rows alone make tasks enough.
  const int64_t flops = 2 * f.rows * kPanel * max_of(s.k, 1), panels = ceil_div(f.tiles, 2);
  const int64_t wanted =
      f.row_blocks >= 8 ? panels : max_of(kTaskFlops / flops, ceil_div(panels, ceil_div(8, f.row_blocks)));
  f.column_blocks = ceil_div(panels, min_of(max_of(wanted, 1), kColumns / kPanel));
  f.columns = ceil_div(panels, f.column_blocks) * kPanel;
  f.column_blocks = ceil_div(s.n, f.columns);
  f.packs_ahead = f.row_blocks > 1;
  f.piece = f.blocks > kPiece ? ceil_div(f.blocks, ceil_div(f.blocks, kPiece)) : f.blocks;
  return f;
}

// Scratch of a task.
struct Room {
  char* a;   // [block of k][tile of rows][plane]
  char* b;   // one panel: [block of k][tile of columns][plane]
  float* c;  // [panel][tile of rows][tile of columns]
};
int64_t a_bytes(const Plan& f) { return f.piece * (f.rows / kSplitLanes) * kSplitBlock; }
int64_t b_bytes(const Plan& f) { return f.packs_ahead ? 0 : f.piece * 2 * kSplitBlock; }
int64_t c_bytes(const Plan& f) { return f.rows * (f.collects() ? f.columns : kPanel) * 4; }

struct Operands {
  const float* a;
  const float* b;
  const float* bias;
  float* c;
  const char* packed;
  const uint32_t* wild;
};

const float* at_a(const MatmulShape& s, const float* a, int64_t i, int64_t l) {
  return s.ta ? a + l * s.m + i : a + i * s.k + l;
}
const float* at_b(const MatmulShape& s, const float* b, int64_t l, int64_t j) {
  return s.tb ? b + j * s.k + l : b + l * s.n + j;
}

uint32_t pack_b(const MatmulShape& s, const float* b, char* to, int64_t tile, int64_t l) {
  const int64_t j = tile * kSplitLanes;
  return split_b(to, at_b(s, b, l, j), s.tb ? Lie::along_k : Lie::along_i, s.tb ? s.k : s.n,
                 min_of(s.n - j, kSplitLanes), min_of(s.k - l, kSplitDepth));
}

// A block of k of all columns.
void pack_task(const MatmulShape& s, const Plan& f, const float* b, char* packed, uint32_t* wild,
               int64_t block) {
  for (int64_t tile = 0; tile < f.tiles; ++tile) {
    const int64_t panel = tile / 2, width = f.tiles_of(panel);
    char* to = packed + (2 * panel * f.blocks + block * width + tile % 2) * kSplitBlock;
    wild[tile * f.blocks + block] = pack_b(s, b, to, tile, block * kSplitDepth);
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

// Sums of a panel to C; `sums` holds its tiles, `step` numbers from one row of tiles to the next.
void finish(const MatmulShape& s, const Operands& o, const Part& part, const float* sums, int64_t step,
            int64_t panel, const uint32_t* wild_rows, const uint32_t* wild_columns) {
  const int64_t begin = panel * kPanel, end = min_of(begin + kPanel, part.j1);
  for (int64_t i = part.i0; i < part.i1; ++i) {
    const int64_t r = (i - part.i0) / kSplitLanes, lane = (i - part.i0) % kSplitLanes;
    const bool wild_row = wild_rows[r] >> lane & 1;
    for (int64_t j = begin; j < end; j += kSplitLanes) {
      const int64_t tile = (j - begin) / kSplitLanes, n = min_of(end - j, kSplitLanes);
      const uint32_t wild = wild_row ? 0xffff : wild_columns[tile];
      float line[kSplitLanes];
      Vec<float> v = load(sums + r * step + tile * kSplitNumbers + lane * kSplitLanes);
      if (wild) {
        store(line, v);
        for (int64_t q = 0; q < n; ++q)
          if (wild >> q & 1) line[q] = dot(s, o, i, j + q);
        v = load(line);
      }
      float* c = o.c + i * s.n + j;
      if (s.accumulate) v = v + load_n(c, n);
      if (o.bias) v = v + load_n(o.bias + j, n);
      if (s.relu) v = max(zero<float>(), v);
      store_n(c, v, n);
    }
  }
}

void sum(const MatmulShape& s, const Plan& f, const Operands& o, const Room& room, const Part& part) {
  const int64_t row_tiles = part.row_tiles(), a_block = row_tiles * kSplitBlock;
  int64_t a_offset[kPiece], b_offset[kPiece];
  for (int64_t q = 0; q < kPiece; ++q) a_offset[q] = q * a_block;
  uint32_t wild_rows[kRows / kSplitLanes] = {}, wild_columns[kColumns / kSplitLanes] = {};
  for (int64_t l = 0; l < f.blocks; l += f.piece) {
    const int64_t end = min_of(l + f.piece, f.blocks);
    for (int64_t r = 0; r < row_tiles; ++r) {
      const int64_t i = part.i0 + r * kSplitLanes;
      for (int64_t q = l; q < end; ++q)
        wild_rows[r] |=
            split_a(room.a + (q - l) * a_block + r * kSplitBlock, at_a(s, o.a, i, q * kSplitDepth),
                    s.ta ? Lie::along_i : Lie::along_k, s.ta ? s.m : s.k, min_of(part.i1 - i, kSplitLanes),
                    min_of(s.k - q * kSplitDepth, kSplitDepth));
    }
    for (int64_t panel = part.j0 / kPanel; panel * kPanel < part.j1; ++panel) {
      const int64_t width = f.tiles_of(panel), local = 2 * panel - part.j0 / kSplitLanes;
      uint32_t* wild = wild_columns + local;
      const char* b = o.packed + (2 * panel * f.blocks + l * width) * kSplitBlock;
      for (int64_t q = l; q < end; ++q) {
        for (int64_t w = 0; w < width; ++w) {
          if (f.packs_ahead)
            wild[w] |= o.wild[(2 * panel + w) * f.blocks + q];
          else
            wild[w] |=
                pack_b(s, o.b, room.b + ((q - l) * width + w) * kSplitBlock, 2 * panel + w, q * kSplitDepth);
        }
      }
      if (!f.packs_ahead) b = room.b;
      for (int64_t q = 0; q < kPiece; ++q) b_offset[q] = q * width * kSplitBlock;
      const SplitCall call{end - l, a_offset, 64, kSplitTile, b, b_offset, kSplitBlock, kSplitTile, l > 0};
      float* c = room.c + (f.collects() ? local * row_tiles * kSplitNumbers : 0);
      const int64_t step = width * kSplitNumbers;
      for (int64_t r = 0; r < row_tiles; r += 2) {
        const char* rows[2] = {room.a + r * kSplitBlock, room.a + (r + 1) * kSplitBlock};
        float* out[2] = {c + r * step, c + (r + 1) * step};
        split_tile(r + 1 < row_tiles ? 2 : 1, static_cast<int>(width))(rows, out, call);
      }
      if (end == f.blocks) finish(s, o, part, c, step, panel, wild_rows, wild);
    }
  }
}

}  // namespace

bool takes(const MatmulShape& s) {
  // Splitting an operand costs about as much as 128 products a number. Not by m, unless A is transposed and m no batch: a row
  // of C must not depend on how many there are.
  return s.m > 0 && s.n >= 256 && s.k >= 256 && (!s.ta || s.m >= 256);
}

int phases(const MatmulShape& s) { return plan(s).packs_ahead + 1; }
int packing(const MatmulShape& s) { return plan(s).packs_ahead; }

int64_t tasks(const MatmulShape& s, int phase) {
  const Plan f = plan(s);
  return f.packs_ahead && phase == 0 ? f.blocks : f.row_blocks * f.column_blocks;
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
  char* packed = static_cast<char*>(t.workspace);
  uint32_t* wild = reinterpret_cast<uint32_t*>(packed + f.packed_bytes());
  char* scratch = static_cast<char*>(t.scratch);
  const Room room{scratch, scratch + a_bytes(f), reinterpret_cast<float*>(scratch + a_bytes(f) + b_bytes(f))};
  const Operands o{static_cast<const float*>(t.a[0]),
                   static_cast<const float*>(t.a[1]),
                   static_cast<const float*>(t.a[2]),
                   static_cast<float*>(t.a[3]),
                   packed,
                   wild};
  if (f.packs_ahead && t.phase == 0) {
    pack_task(s, f, o.b, packed, wild, t.index);
  } else {
    const int64_t i0 = t.index / f.column_blocks * f.rows, j0 = t.index % f.column_blocks * f.columns;
    const SplitUnit unit;
    sum(s, f, o, room, {i0, min_of(i0 + f.rows, s.m), j0, min_of(j0 + f.columns, s.n)});
  }
}

}  // namespace cnnmath::CNNMATH_ISA::matmul_split
#endif
