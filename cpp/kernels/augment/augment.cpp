// Augmentation. See augment.h.
#include "kernels/augment/augment.h"

#include "simd/loops.h"

namespace cnnmath::CNNMATH_ISA {
namespace {

enum Mode : int64_t { kConstant, kEdge, kReflect, kSymmetric };

const AugmentShape& shape(const int64_t* p) { return *reinterpret_cast<const AugmentShape*>(p); }
int64_t numbers(const AugmentShape& d) { return d.h * d.w * d.c; }
int64_t tasks(const int64_t* p, int) { return piece_tasks(shape(p).n, numbers(shape(p))); }

struct Words {
  uint32_t w[4];
};

Words philox(const uint64_t* key, int64_t number, int64_t transform) {
  const auto low = [](uint64_t v) { return static_cast<uint32_t>(v); };
  const auto high = [](uint64_t v) { return static_cast<uint32_t>(v >> 32); };
  const auto image = static_cast<uint64_t>(number);
  uint32_t c0 = low(image), c2 = low(key[1]), c3 = high(key[1]), k0 = low(key[0]), k1 = high(key[0]);
  uint32_t c1 = high(image) ^ (low(static_cast<uint64_t>(transform)) << 16) ^ 0x80000000u;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xd2511f53} * c0, p1 = uint64_t{0xcd9e8d57} * c2;
    c0 = high(p1) ^ c1 ^ k0;
    c2 = high(p0) ^ c3 ^ k1;
    c1 = low(p1);
    c3 = low(p0);
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return {{c0, c1, c2, c3}};
}

// Where in 0 ... n - 1 position i of a padded row lies (i = 0 is the first of the unpadded ones); -1: nowhere.
int64_t folded(int64_t i, int64_t n, int64_t mode) {
  if (i >= 0 && i < n) return i;
  if (mode == kConstant) return -1;
  if (mode == kEdge) return i < 0 ? 0 : n - 1;
  if (mode == kReflect && n == 1) return 0;
  const int64_t period = mode == kReflect ? 2 * (n - 1) : 2 * n;
  i = (i % period + period) % period;
  return i < n ? i : period - i - (mode == kSymmetric);
}

// f of the numbers of a pixel: the identity, or a table.
template <class T>
struct Same {
  using In = T;
  using Out = T;
  CNNMATH_INLINE T operator()(T x, int64_t) const { return x; }
};
template <class T>
struct Table {
  using In = uint8_t;
  using Out = T;
  const T* table;
  CNNMATH_INLINE T operator()(uint8_t x, int64_t k) const { return table[256 * k + x]; }
};

// `count` pixels of C numbers (0: of c, known only now) to a row, one after the other or from right to left.
template <int64_t C, class F>
CNNMATH_INLINE void pixels(const F& f, const typename F::In* x, typename F::Out* y, int64_t count, int64_t c,
                           bool mirrored) {
  const int64_t each = C ? C : c;
  if (!mirrored) {
    for (int64_t s = 0; s < count; ++s)
      for (int64_t k = 0; k < each; ++k) y[s * each + k] = f(x[s * each + k], k);
  } else {
    for (int64_t s = 0; s < count; ++s)
      for (int64_t k = 0; k < each; ++k) y[(count - 1 - s) * each + k] = f(x[s * each + k], k);
  }
}

template <int64_t C, class F>
void image(const AugmentShape& d, const F& f, const typename F::In* x, const typename F::In* fill,
           typename F::Out* y, int64_t top, int64_t left, bool mirrored) {
  const int64_t first = max_of(0, min_of(d.w, -left));           // columns of y that
  const int64_t last = max_of(first, min_of(d.w, d.iw - left));  // lie inside x
  for (int64_t r = 0; r < d.h; ++r, y += d.w * d.c) {
    const int64_t from = folded(r + top, d.ih, d.mode);
    const typename F::In* row = x + max_of(from, 0) * d.iw * d.c;
    const auto border = [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const int64_t column = from < 0 ? -1 : folded(s + left, d.iw, d.mode);
        const typename F::In* pixel = column < 0 ? fill : row + column * d.c;
        pixels<C>(f, pixel, y + (mirrored ? d.w - 1 - s : s) * d.c, 1, d.c, false);
      }
    };
    if (from < 0) {
      border(0, d.w);
      continue;
    }
    border(0, first);
    pixels<C>(f, row + (first + left) * d.c, y + (mirrored ? d.w - last : first) * d.c, last - first, d.c,
              mirrored);
    border(last, d.w);
  }
}

template <class F>
void run(const Task& t, const F& f, typename F::Out* y) {
  const AugmentShape& d = shape(t.p);
  const auto* key = static_cast<const uint64_t*>(t.a[0]);
  const double p = cell_of(t.a[1]);
  const auto* x = static_cast<const typename F::In*>(t.a[2]);
  const auto* rows = static_cast<const int64_t*>(t.a[3]);
  const auto* numbered = static_cast<const int64_t*>(t.a[4]);
  const auto* fill = static_cast<const typename F::In*>(t.a[5]);
  const auto down = static_cast<uint64_t>(d.ih + d.top + d.bottom - d.h + 1);
  const auto across = static_cast<uint64_t>(d.iw + d.left + d.right - d.w + 1);
  const Range range = piece_range(d.n, numbers(d), t.index);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const Words crop = philox(key, numbered[i], d.crop);
    const bool mirrored = p > 0 && philox(key, numbered[i], d.mirror).w[0] < p * 4294967296.0;
    const int64_t top = static_cast<int64_t>(crop.w[0] * down >> 32) - d.top;
    const int64_t left = static_cast<int64_t>(crop.w[1] * across >> 32) - d.left;
    const typename F::In* from = x + rows[i] * d.ih * d.iw * d.c;
    typename F::Out* to = y + i * numbers(d);
    if (d.c == 1)
      image<1>(d, f, from, fill, to, top, left, mirrored);
    else if (d.c == 3)
      image<3>(d, f, from, fill, to, top, left, mirrored);
    else
      image<0>(d, f, from, fill, to, top, left, mirrored);
  }
}

template <class T>
void augment(const Task& t) {
  run(t, Same<T>{}, static_cast<T*>(t.a[6]));
}
template <class T>
void augment_table(const Task& t) {
  run(t, Table<T>{static_cast<const T*>(t.a[6])}, static_cast<T*>(t.a[7]));
}

constexpr const char* kArgs = "key p x rows numbers fill y";
constexpr const char* kTableArgs = "key p x rows numbers fill table y";
constexpr const char* kFields = "n ih iw c h w top bottom left right mode crop mirror";
const Kernel kernels[] = {
    {"augment", "f32", kArgs, kFields, one_phase, tasks, no_bytes, no_bytes, augment<float>},
    {"augment", "f64", kArgs, kFields, one_phase, tasks, no_bytes, no_bytes, augment<double>},
    {"augment", "u8", kArgs, kFields, one_phase, tasks, no_bytes, no_bytes, augment<uint8_t>},
    {"augment_table", "f32", kTableArgs, kFields, one_phase, tasks, no_bytes, no_bytes, augment_table<float>},
    {"augment_table", "f64", kTableArgs, kFields, one_phase, tasks, no_bytes, no_bytes,
     augment_table<double>},
    {"augment_table", "u8", kTableArgs, kFields, one_phase, tasks, no_bytes, no_bytes,
     augment_table<uint8_t>},
};

}  // namespace

extern const KernelList augment_kernels;
const KernelList augment_kernels = {kernels, sizeof(kernels) / sizeof(kernels[0])};

}  // namespace cnnmath::CNNMATH_ISA
