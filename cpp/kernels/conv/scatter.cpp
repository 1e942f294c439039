// The gradient of the input, pixel of dy by pixel: what dy[n,p,q,.] sends to one row of its window is the row vector
//
//   dx[n, p*sh - pt + i*dh, q*sw - pl + j, k] += sum over o of dy[n,p,q,o] w[i,j,k,o]        for all j, k together
//
// kw*c numbers that lie side by side, so vectors are full where c alone would leave them nearly empty, padding costs nothing, and a
// stride needs no sweep of its own for each residue.
//
// A task has some rows of dx, or some images, in scratch with their padding, and adds up there what meets them. The rows of a
// register tile are pixels of one column of dy, from different rows and images: their windows' rows do not overlap.
#include "kernels/conv/parts.h"
#include "kernels/conv/sweep.h"
#include "kernels/tile/pack.h"
#include "kernels/tile/tile.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kTaskFlops = int64_t{kVecBytes} << 16;
constexpr int64_t kTaskBytes = 192 << 10;    // of dx, that should stay in L2
constexpr int64_t kTaskPixels = 8;           // of one column: a good tile,
constexpr int64_t kMostBytes = 8 << 20;      // unless that takes more of dx
constexpr int64_t kManyResidues = 4;         // each would be a sweep of its own
constexpr int64_t kMostWeights = 512 << 10;  // bytes
constexpr int64_t kSpare = 16;               // repeated pointers for the last tile

template <class T>
struct Plan {
  Panels<T> panels;
  int64_t row;  // numbers in a row of dx in scratch
  int64_t rows, row_blocks, images, image_blocks;
  int64_t tasks() const { return row_blocks * image_blocks; }
  int64_t pixels() const { return images * rows; }  // at most, of one column
};

template <class T>
Plan<T> plan(const ConvShape& s) {
  Plan<T> f{};
  f.panels = panels_of<T>(s.kw * s.c);
  f.row = ((s.ow - 1) * s.sw + s.kw) * s.c;
  const int64_t row_bytes = f.row * static_cast<int64_t>(sizeof(T));
  const int64_t row_flops = max_of(2 * s.oh * s.ow * s.oc * s.kh * f.panels.padded() / s.h, 1);
  f.rows = max_of(min_of(kTaskFlops / row_flops, kTaskBytes / row_bytes),
                  min_of(kTaskPixels * s.sh, kMostBytes / row_bytes));
  f.rows = min_of(max_of(f.rows, 1), s.h);
  f.row_blocks = ceil_div(s.h, f.rows);
  f.rows = ceil_div(s.h, f.row_blocks);
  f.images = 1;
  if (f.row_blocks == 1) {
    f.images = min_of(kTaskFlops / (row_flops * s.h), kTaskBytes / (row_bytes * s.h));
    f.images =
        max_of(f.images, min_of(ceil_div(kTaskPixels, max_of(s.oh, 1)), kMostBytes / (row_bytes * s.h)));
    f.images = min_of(max_of(f.images, 1), s.n);
  }
  f.image_blocks = ceil_div(s.n, f.images);
  f.images = ceil_div(s.n, f.image_blocks);
  return f;
}

int phases(const int64_t*) { return 2; }

template <class T>
int64_t tasks(const int64_t* p, int phase) {
  const ConvShape& s = conv_shape(p);
  if (conv_flops(s) <= kSmallFlops) return 1;
  return phase == 0 ? s.kh : plan<T>(s).tasks();
}

// Panel after panel; in each, row after row of the window, oc rows of a panel's width.
template <class T>
int64_t workspace(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  return round_up(s.kh * s.oc * plan<T>(s).panels.padded() * static_cast<int64_t>(sizeof(T)), 64);
}

// The rows i of the windows that meet row h of dx: first, first + step, ...; the row of dy that the first one comes from.
struct Meeting {
  int64_t first, count, row;
};

// Rows of dy that meet row h through the row i of their window: at most one.
Meeting meeting(const ConvShape& s, int64_t step, int64_t h) {
  Meeting m{0, 0, 0};
  for (int64_t i = 0; i < s.kh; i += m.count ? step : 1) {
    const int64_t top = h + s.pt - i * s.dh;
    if (top < 0) break;
    if (top % s.sh != 0 || top / s.sh >= s.oh) {
      if (m.count) break;
      continue;
    }
    if (!m.count) m = {i, 0, top / s.sh};
    ++m.count;
  }
  return m;
}

// Scratch of a task.
template <class T>
struct Room {
  const T** a;  // pixels of dy
  T** c;        // their windows in sums
  int64_t *a_offset, *b_offset;
  Meeting* meetings;  // of each row
  T* sums;            // [image][row][f.row]
};

template <class T>
int64_t list_bytes(const ConvShape& s, const Plan<T>& f) {
  return round_up(8 * (2 * (f.pixels() + kSpare) + 2 * s.kh + 3 * f.rows), 64);
}

template <class T>
Room<T> lay_out(const ConvShape& s, const Plan<T>& f, void* memory) {
  Room<T> room;
  room.a = static_cast<const T**>(memory);
  room.c = static_cast<T**>(memory) + f.pixels() + kSpare;
  room.a_offset = static_cast<int64_t*>(memory) + 2 * (f.pixels() + kSpare);
  room.b_offset = room.a_offset + s.kh;
  room.meetings = reinterpret_cast<Meeting*>(room.b_offset + s.kh);
  room.sums = reinterpret_cast<T*>(static_cast<char*>(memory) + list_bytes(s, f));
  return room;
}

template <class T>
int64_t scratch(const int64_t* p) {
  const ConvShape& s = conv_shape(p);
  const Plan<T> f = plan<T>(s);
  return list_bytes(s, f) + f.pixels() * f.row * static_cast<int64_t>(sizeof(T));
}

template <class T>
void pack(const ConvShape& s, const Plan<T>& f, const T* w, T* packed, int64_t i) {
  const T* from = w + i * s.kw * s.c * s.oc;
  for (int64_t j = 0; j < f.panels.count; ++j) {
    const int64_t width = int64_t{f.panels.vectors(j)} * Vec<T>::lanes;
    pack_panel(packed + s.oc * (s.kh * f.panels.begin(j) + i * width), width, from + f.panels.begin(j) * s.oc,
               int64_t{1}, s.oc, s.oc, f.panels.columns(j));
  }
}

// The windows of the rows [h0, h1) of dx of some images. Rows that meet the same rows of the window are summed together.
template <class T>
void add_rows(const ConvShape& s, const Plan<T>& f, const T* dy, const T* packed, int64_t images, int64_t h0,
              int64_t h1, T* dx, Room<T> room) {
  int64_t step = 1;  // i * dh has the same rest by sh every so often
  while (step * s.dh % s.sh != 0) ++step;
  const int64_t row_step = s.ow * s.oc;
  for (int64_t h = h0; h < h1; ++h) room.meetings[h - h0] = meeting(s, step, h);
  for (int64_t h = h0; h < h1; ++h) {
    const Meeting m = room.meetings[h - h0];
    if (m.count == 0) continue;
    int64_t pixels = 0;
    for (int64_t row = h; row < h1; ++row) {
      Meeting& other = room.meetings[row - h0];
      if (other.first != m.first || other.count != m.count) continue;
      for (int64_t image = 0; image < images; ++image, ++pixels) {
        room.a[pixels] = dy + (image * s.oh + other.row) * row_step;
        room.c[pixels] = dx + (image * (h1 - h0) + row - h0) * f.row;
      }
      other.count = 0;  // done
    }
    for (int64_t k = 0; k < kSpare; ++k) {
      room.a[pixels + k] = room.a[pixels - 1];
      room.c[pixels + k] = room.c[pixels - 1];
    }
    for (int64_t j = 0; j < f.panels.count; ++j) {
      const int nv = f.panels.vectors(j);
      const Deal<T> deal(row_tiles<T>(nv), nv, false);
      const int64_t width = int64_t{nv} * Vec<T>::lanes;
      const T* weights = packed + s.oc * s.kh * f.panels.begin(j);
      for (int64_t b = 0; b < m.count; ++b) room.b_offset[b] = (m.first + b * step) * s.oc * width;
      for (int64_t q = 0; q < s.ow; ++q) {
        for (int64_t b = 0; b < m.count; ++b)
          room.a_offset[b] = q * s.oc - b * (step * s.dh / s.sh) * row_step;
        run_rows(room.a, room.c, pixels, deal,
                 TileCall<T>{m.count, room.a_offset, room.b_offset, s.oc, weights, width, 0,
                             q * s.sw * s.c + f.panels.begin(j), f.panels.columns(j), nullptr, 1, 0});
      }
    }
  }
}

template <class T>
void add_windows(const ConvShape& s, const Plan<T>& f, const T* dy, const T* packed, T* dx, void* memory,
                 int64_t task) {
  const int64_t h0 = task % f.row_blocks * f.rows, h1 = min_of(h0 + f.rows, s.h);
  const int64_t image0 = task / f.row_blocks * f.images, images = min_of(f.images, s.n - image0);
  const Room<T> room = lay_out(s, f, memory);
  T* sums = room.sums;
  zero_run(sums, images * (h1 - h0) * f.row);
  add_rows(s, f, dy + image0 * s.oh * s.ow * s.oc, packed, images, h0, h1, sums, room);
  const int64_t met = max_of(min_of(f.row - s.pl * s.c, s.w * s.c), 0);
  for (int64_t image = 0; image < images; ++image) {
    for (int64_t h = h0; h < h1; ++h, sums += f.row) {
      T* row = dx + ((image0 + image) * s.h + h) * s.w * s.c;
      copy_run(row, sums + s.pl * s.c, met);
      zero_run(row + met, s.w * s.c - met);
    }
  }
}

template <class T>
void run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const Plan<T> f = plan<T>(s);
  const T* dy = static_cast<const T*>(t.a[0]);
  const T* w = static_cast<const T*>(t.a[1]);
  T* dx = static_cast<T*>(t.a[2]);
  const bool small = conv_flops(s) <= kSmallFlops;
  const int64_t all = t.phase == 0 ? s.kh : f.tasks();
  for (int64_t i = small ? 0 : t.index; i < (small ? all : t.index + 1); ++i) {
    if (t.phase == 0)
      pack(s, f, w, static_cast<T*>(t.workspace), i);
    else
      add_windows(s, f, dy, static_cast<const T*>(t.workspace), dx, t.scratch, i);
  }
}

}  // namespace

// Lanes of multiply-adds for a number of dy and a row of the window, here and as a sweep, which has the channels either in the
// lanes or (where they are few) pixels. The factors are what was measured of tiles one vector wide, of the planar way, and of
// adding to sums in memory.
template <class T>
bool scatter_pays(const ConvShape& s) {
  if (s.groups != 1 || s.dw != 1 || s.n * s.h * s.w * s.c * s.oh * s.ow * s.oc == 0) return false;
  if (s.sh * s.sw > kManyResidues) return true;
  if (s.kw == 1 || grad_input_multiplies_fast<T>(s)) return false;
  constexpr int64_t L = Vec<T>::lanes;
  const double taps = static_cast<double>(s.kw) / static_cast<double>(s.sh * s.sw);
  // A tile has only so many rows as there are pixels of one column (in one image: the rule is one of the layer's shape); many weights come
  // from beyond L2 for each of its few.
  ConvShape one = s;
  one.n = 1;
  const int64_t width = plan<T>(s).panels.padded();
  const bool far = s.oc * s.kh * width * static_cast<int64_t>(sizeof(T)) > kMostWeights;
  const double windows = static_cast<double>(s.oh * s.ow * width) * (1 + 8 / static_cast<double>(s.oc)) *
                         (s.oh < 4 ? 4 / static_cast<double>(s.oh) : 1) * (far ? 1.5 : 1);
  const double channels = static_cast<double>(s.h * s.w * round_up(s.c, L)) * taps *
                          (s.c <= L ? kNarrowHalves / 2. : 1) * grad_sweep<T>(one, 0).done;
  const double planar = static_cast<double>(s.h * round_up(ceil_div(s.w, s.sw), L) * s.sw * s.c) * taps * 1.3;
  return windows < channels && (s.c > L || windows < planar);
}

template <class T>
ConvPart scatter_part() {
  return {phases, tasks<T>, workspace<T>, scratch<T>, run<T>};
}

#define PARTS(T)                                   \
  template bool scatter_pays<T>(const ConvShape&); \
  template ConvPart scatter_part<T>();
PARTS(float)
PARTS(double)

}  // namespace cnnmath::CNNMATH_ISA
