#include "kernels/conv/winograd_split.h"

#if defined(__AMX_BF16__)
#include "kernels/conv/winograd_ends.h"
#include "kernels/tile/split.h"
#include "simd/cut.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kLanes = kSplitLanes, kDepth = kSplitDepth;
constexpr int64_t kProductBytes = 2600 << 10;  // of the products of a task at a time
constexpr int64_t kFewChannels = 64;           // up to here all weights stay in L2
constexpr int64_t kFewTiles = 32, kManyTiles = 64;
constexpr int64_t kSourceBytes = 3600 << 10;    // of the split source of a task, at most
constexpr int64_t kTasks = 4, kTasksOfOne = 8;  // at least, out of several blocks of tiles or of one
constexpr int64_t kPad = 64;  // bytes: points that lie a multiple of 4 KiB apart would share their cache sets

// How the work is cut, from the shape alone.
struct Plan {
  WinogradTiles tiles;
  int64_t block, blocks;            // tiles of a task
  int64_t depth;                    // blocks of k
  int64_t pairs;                    // of tiles of outputs
  int64_t task_pairs, pair_blocks;  // of a task
  int64_t group;                    // pairs whose products are there at a time
  bool packs_ahead;  // the weights, in a phase of its own; else a task does, whose weights no other one reads
  int64_t source_step;   // bytes from point to point of the split source
  int64_t product_step;  // numbers from point to point of the products
  int64_t width() const { return group * 2 * kLanes; }
};

Plan plan(const Sweep<float>& s) {
  Plan f{};
  f.tiles = winograd_tiles(s);
  f.depth = ceil_div(s.ic, kDepth);
  f.pairs = ceil_div(s.oc, 2 * kLanes);
  // Where the weights come from L3, more tiles repay them.
  f.block = s.ic > kFewChannels ? kManyTiles : kFewTiles;
  const int64_t row_bytes = kWinogradPoints * f.depth * kSplitBlock;
  f.block = max_of(min_of(f.block, kSourceBytes / row_bytes * kLanes), kLanes);
  f.blocks = max_of(ceil_div(f.tiles.count, f.block), 1);
  f.block = max_of(round_up(ceil_div(f.tiles.count, f.blocks), kLanes), kLanes);
  f.blocks = ceil_div(f.tiles.count, f.block);
  f.packs_ahead = f.blocks > 1 || s.lasting;
  f.pair_blocks = min_of(f.blocks > 1 ? ceil_div(kTasks, f.blocks) : kTasksOfOne, f.pairs);
  f.task_pairs = ceil_div(f.pairs, f.pair_blocks);
  f.pair_blocks = ceil_div(f.pairs, f.task_pairs);
  f.group = kProductBytes / (kWinogradPoints * f.block * 2 * kLanes * 4);
  f.group = max_of(min_of(f.group, f.task_pairs), 1);
  f.group = ceil_div(f.task_pairs, ceil_div(f.task_pairs, f.group));
  f.source_step = f.block / kLanes * f.depth * kSplitBlock + kPad;
  f.product_step = f.block * f.width() + kWinogradLanes;
  return f;
}

struct Room {
  char* source;                   // [point][tile of 16][block of k][plane][16][32]
  float* products;                // [point][tile][output of the group]
  char* weights;                  // of the group, for one block of k, where they are not packed ahead
  float* zeros;                   // the channels of a pixel outside the map
  int64_t *offset, *pair_offset;  // of each block of k: among tiles, among pairs of tiles
};

Room room_of(const Sweep<float>& s, const Plan& f, char* memory, int64_t* bytes) {
  Room room{};
  Cut cut(memory);
  cut.take(room.source, kWinogradPoints * f.source_step);
  cut.take(room.products, kWinogradPoints * f.product_step);
  cut.take(room.weights, f.packs_ahead ? 0 : f.group * 2 * kWinogradPoints * kSplitBlock);
  cut.take(room.zeros, round_up(s.ic, kWinogradLanes));
  cut.take(room.offset, f.depth);
  cut.take(room.pair_offset, f.depth);
  if (bytes) *bytes = cut.bytes();
  return room;
}

// A vector's 36 numbers, and another's behind them: lines of kDepth, one for each point.
template <class F>
CNNMATH_INLINE void put_numbers(float* lines, F numbers) {
  Vec<float> v[6][6];
  numbers(v);
#pragma GCC unroll 36
  for (int p = 0; p < kWinogradPoints; ++p) store(lines + p * kDepth, v[p / 6][p % 6]);
}
void put_zeros(float* lines) {
  for (int p = 0; p < kWinogradPoints; ++p) store(lines + p * kDepth, zero<float>());
}

// Tile t's numbers, split, into row t of A of each point.
template <class Load>
void put_source(const Sweep<float>& s, const Plan& f, Load load_pixels, int64_t t, char* source) {
  char* to = source + t / kLanes * f.depth * kSplitBlock + t % kLanes * 64;
  for (int64_t q = 0; q < f.depth; ++q, to += kSplitBlock) {
    alignas(64) float numbers[kWinogradPoints * kDepth];
#pragma GCC unroll 1
    for (int64_t half = 0; half < kDepth; half += kWinogradLanes) {
      const int64_t k = q * kDepth + half;
      if (k < s.ic)
        put_numbers(numbers + half, [&](Vec<float>(&v)[6][6]) __attribute__((always_inline)) {
          winograd_numbers(load_pixels, k, s.ic - k, v);
        });
      else
        put_zeros(numbers + half);
    }
    split_lines(to, f.source_step, numbers, kWinogradPoints);
  }
}

// Tiles of 16 outputs in a pair: the last may be one alone.
int64_t pair_tiles(const Sweep<float>& s, int64_t pair) {
  return min_of(ceil_div(s.oc, kLanes) - 2 * pair, 2);
}

// Block q of k for a tile of outputs: the points are `step` bytes apart.
void pack_tile(const Sweep<float>& s, const WeightsAt<float>& w, int64_t tile, int64_t q, char* to,
               int64_t step) {
  const int64_t o = tile * kLanes, outs = min_of(s.oc - o, kLanes), k = q * kDepth;
  const int64_t depth = min_of(s.ic - k, kLanes), depth2 = max_of(min_of(s.ic - k - kLanes, kLanes), 0);
  const WinogradSquare first(s, w, k, depth, o, outs);
  const WinogradSquare second(s, w, k + kLanes, depth2, o, outs);
  for (int64_t i = 0; i < kLanes; ++i) {
    alignas(64) float numbers[kWinogradPoints * kDepth];
    if (i < depth)
      put_numbers(numbers, [&](Vec<float>(&u)[6][6]) { first.numbers(i, u); });
    else
      put_zeros(numbers);
    if (i < depth2)
      put_numbers(numbers + kLanes, [&](Vec<float>(&u)[6][6]) { second.numbers(i, u); });
    else
      put_zeros(numbers + kLanes);
    split_lines(to + i * 64, step, numbers, kWinogradPoints);
  }
}

// Packed weights, [pair][point][block of k][tile of 16 outputs][plane].
int64_t packed_begin(const Plan& f, int64_t pair) {
  return 2 * pair * kWinogradPoints * f.depth * kSplitBlock;
}

int64_t pack_tasks(const Sweep<float>& s) {
  const Plan f = plan(s);
  return f.packs_ahead ? ceil_div(s.oc, kLanes) * f.depth : 0;
}
int64_t packed_bytes(const Sweep<float>& s) { return pack_tasks(s) * kWinogradPoints * kSplitBlock; }

void pack(const Sweep<float>& s, const WeightsAt<float>& w, void* packed, int64_t task) {
  const Plan f = plan(s);
  const int64_t tile = task / f.depth, q = task % f.depth, width = pair_tiles(s, tile / 2);
  char* to = static_cast<char*>(packed) + packed_begin(f, tile / 2) + (q * width + tile % 2) * kSplitBlock;
  pack_tile(s, w, tile, q, to, f.depth * width * kSplitBlock);
}

int64_t tasks(const Sweep<float>& s) {
  const Plan f = plan(s);
  return f.blocks * f.pair_blocks;
}

int64_t scratch_bytes(const Sweep<float>& s) {
  int64_t bytes = 0;
  room_of(s, plan(s), nullptr, &bytes);
  return bytes;
}

WinogradParts parts(const Sweep<float>& s) { return winograd_parts_of(s, plan(s).blocks); }

// The products of `rows` tiles of A with a pair of tiles of weights, of one point, over the blocks [q, q + blocks) of k.
void multiply(const Plan& f, const Room& room, int64_t rows, int64_t point, int64_t q, int64_t blocks,
              const char* weights, int64_t width, float* products) {
  const char* source = room.source + point * f.source_step + q * kSplitBlock;
  const int64_t row_bytes = f.depth * kSplitBlock;
  SplitCall call{};
  call.blocks = blocks;
  call.a_offset = room.offset, call.b_offset = width == 2 ? room.pair_offset : room.offset;
  call.a_row = 64, call.a_plane = call.b_plane = kSplitTile;
  call.b = weights, call.b_tile = kSplitBlock;
  call.accumulate = q > 0;
  call.c_row = f.width() * 4, call.c_tile = 64;
  for (int64_t r = 0; r < rows; r += 2) {
    const char* const a[2] = {source + r * row_bytes, source + (r + 1) * row_bytes};
    float* const c[2] = {products + r * kLanes * f.width(), products + (r + 1) * kLanes * f.width()};
    split_tile(static_cast<int>(min_of(rows - r, 2)), static_cast<int>(width))(a, c, call);
  }
}

// The products of the pairs [from, to).
void multiply_group(const Sweep<float>& s, const Plan& f, const Room& room, int64_t rows,
                    const WeightsAt<float>& w, const char* packed, int64_t from, int64_t to) {
  const auto products = [&](int64_t p, int64_t pair) {
    return room.products + p * f.product_step + (pair - from) * 2 * kLanes;
  };
  if (f.packs_ahead) {
    for (int64_t p = 0; p < kWinogradPoints; ++p)
      for (int64_t pair = from; pair < to; ++pair) {
        const int64_t width = pair_tiles(s, pair);
        multiply(f, room, rows, p, 0, f.depth,
                 packed + packed_begin(f, pair) + p * f.depth * width * kSplitBlock, width,
                 products(p, pair));
      }
    return;
  }
  // One block of k for all pairs, [pair][point][tile][plane]: the source of a point serves them all.
  const auto weights = [&](int64_t pair) {
    return room.weights + (pair - from) * 2 * kWinogradPoints * kSplitBlock;
  };
  for (int64_t q = 0; q < f.depth; ++q) {
    for (int64_t pair = from; pair < to; ++pair) {
      const int64_t width = pair_tiles(s, pair);
      for (int64_t tile = 0; tile < width; ++tile)
        pack_tile(s, w, 2 * pair + tile, q, weights(pair) + tile * kSplitBlock, width * kSplitBlock);
    }
    for (int64_t p = 0; p < kWinogradPoints; ++p)
      for (int64_t pair = from; pair < to; ++pair) {
        const int64_t width = pair_tiles(s, pair);
        multiply(f, room, rows, p, q, 1, weights(pair) + p * width * kSplitBlock, width, products(p, pair));
      }
  }
}

void run(const Sweep<float>& s, const float* x, const WinogradExtras& extras, const WeightsAt<float>& w,
         const void* packed, float* y, void* scratch, int64_t task) {
  const Plan f = plan(s);
  const int64_t block = task / f.pair_blocks, pair0 = task % f.pair_blocks * f.task_pairs;
  const int64_t pair1 = min_of(pair0 + f.task_pairs, f.pairs);
  const int64_t tile0 = block * f.block, tiles = min_of(f.block, f.tiles.count - tile0);
  const Room room = room_of(s, f, static_cast<char*>(scratch), nullptr);
  zero_run(room.zeros, round_up(s.ic, kWinogradLanes));
  for (int64_t t = 0; t < tiles; ++t) {
    winograd_source(s, x, extras.source, winograd_place(f.tiles, tile0 + t), room.zeros,
                    [&](auto load_pixels) { put_source(s, f, load_pixels, t, room.source); });
  }
  float* part = extras.parts ? extras.parts + block * parts(s).step : nullptr;
  const SplitUnit unit;
  for (int64_t q = 0; q < f.depth; ++q) {
    room.offset[q] = q * kSplitBlock;
    room.pair_offset[q] = 2 * q * kSplitBlock;
  }
  for (int64_t from = pair0; from < pair1; from += f.group) {
    const int64_t to = min_of(from + f.group, pair1);
    multiply_group(s, f, room, ceil_div(tiles, kLanes), w, static_cast<const char*>(packed), from, to);
    const int64_t first = from * 2 * kLanes, outs = min_of(to * 2 * kLanes, s.oc) - first;
    winograd_outputs(s, f.tiles, tile0, tiles, first, outs, room.products, f.product_step, f.width(), extras,
                     x, w, y, part);
  }
}

}  // namespace

bool winograd_splits(const Sweep<float>& s) { return s.ic > kDepth / 2 && s.oc > kLanes; }
WinogradWay winograd_split_way() {
  return {pack_tasks, packed_bytes, pack, tasks, scratch_bytes, parts, run};
}

}  // namespace cnnmath::CNNMATH_ISA
#else
namespace cnnmath::CNNMATH_ISA {

bool winograd_splits(const Sweep<float>&) { return false; }
WinogradWay winograd_split_way() { return {}; }

}  // namespace cnnmath::CNNMATH_ISA
#endif
