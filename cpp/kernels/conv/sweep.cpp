#include "kernels/conv/sweep.h"

#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

constexpr int64_t kTaskFlops = int64_t{kVecBytes} << 16;  // about 40 us
constexpr int64_t kTaskPixels = 96;                       // eight tiles of the tallest sort
constexpr int64_t kTaskSource = 384 << 10;                // bytes of source that should stay in L2
constexpr int64_t kWholeDepth = 1024;                     // a longer sum is cut, so that a panel of weights
constexpr int64_t kCutDepth = 512;                        // stays near while all pixels pass over it
// What tiles lose for each group of pixels that find the same taps: as much as for so many pixels.
constexpr double kReachPixels = 0.8;

bool inside(const Axis& a, int64_t size) {
  return a.taps == 0 || a.outs == 0 || (a.source_begin(0) >= 0 && a.source_end(a.outs) <= size);
}

// The part of the pairs of an output position and a tap that lie inside the map, and how often neighbours differ in their taps.
struct Inside {
  double part;
  int64_t borders;
};
Inside inside_map(const Axis& a, int64_t size) {
  int64_t pairs = 0, borders = 0;
  for (int64_t i = 0; i < a.taps; ++i) {
    const int64_t at = a.offset + i * a.offset_step;
    const int64_t begin = at < 0 ? min_of(ceil_div(-at, a.source_step), a.outs) : 0;
    const int64_t end = at < size ? min_of((size - 1 - at) / a.source_step + 1, a.outs) : 0;
    pairs += max_of(end - begin, 0);
    borders += (begin > 0) + (end < a.outs);
  }
  return {static_cast<double>(pairs) / static_cast<double>(a.outs * a.taps), borders};
}

Reach reach_from(const Axis& a, int64_t size, int64_t from, int64_t to) {
  const auto taps_at = [&](int64_t position) {
    const int64_t at = a.source_begin(position);
    const int64_t tap1 = at < size ? min_of((size - 1 - at) / a.offset_step + 1, a.taps) : 0;
    const int64_t tap0 = at < 0 ? min_of(ceil_div(-at, a.offset_step), tap1) : 0;
    return Reach{position, position + 1, tap0, tap1};
  };
  Reach reach = taps_at(from);
  for (; reach.to < to; ++reach.to) {
    const Reach next = taps_at(reach.to);
    if (next.tap0 != reach.tap0 || next.tap1 != reach.tap1) break;
  }
  return reach;
}

// f(rows, columns) for the outputs of rows [row0, row1), those together that find the same taps inside the map.
template <class T, class F>
void each_reach(const Sweep<T>& s, int64_t row0, int64_t row1, F f) {
  for (Reach rows{}; row0 < row1; row0 = rows.to) {
    rows = s.skips_rows ? reach_from(s.v, s.h, row0, row1) : Reach{row0, row1, 0, s.v.taps};
    int64_t column = 0;
    for (Reach columns{}; column < s.u.outs; column = columns.to) {
      columns = s.skips_columns ? reach_from(s.u, s.w, column, s.u.outs) : Reach{0, s.u.outs, 0, s.u.taps};
      f(rows, columns);
    }
  }
}

// Rows [from, to) and `columns` columns of one image's channels, zeros outside the map.
template <class T>
void copy_source(const Sweep<T>& s, const T* image, int64_t channel, int64_t from, int64_t to, T* out) {
  const int64_t left = s.u.source_begin(0), columns = s.source_columns, ic = s.ic;
  const int64_t begin = min_of(max_of(-left, 0), columns);  // first column inside the map
  const int64_t end = max_of(min_of(s.w - left, columns), begin);
  for (int64_t r = from; r < to; ++r, out += columns * ic) {
    if (r < 0 || r >= s.h || begin == end) {
      zero_run(out, columns * ic);
      continue;
    }
    const T* row = image + (r * s.w + left) * s.c + channel;
    zero_run(out, begin * ic);
    if (ic == s.c) {
      copy_run(out + begin * ic, row + begin * s.c, (end - begin) * ic);
    } else {
      for (int64_t q = begin; q < end; ++q) copy_run(out + q * ic, row + q * s.c, ic);
    }
    zero_run(out + end * ic, (columns - end) * ic);
  }
}

}  // namespace

Axis forward_axis(int64_t outs, int64_t taps, int64_t stride, int64_t dilation, int64_t pad) {
  return {outs, 0, 1, taps, 0, 1, stride, -pad, dilation};
}

Axis grad_axis(int64_t size, int64_t taps, int64_t stride, int64_t dilation, int64_t pad, int64_t r) {
  Axis a{};
  a.outs = size > r ? (size - r + stride - 1) / stride : 0;
  a.out_begin = r;
  a.out_step = stride;
  a.source_step = a.offset_step = 1;
  int64_t first = -1, second = -1;
  for (int64_t i = 0; i < taps && second < 0; ++i) {
    if ((r + pad - i * dilation) % stride != 0) continue;
    (first < 0 ? first : second) = i;
  }
  if (first < 0) return a;
  const int64_t step = second < 0 ? taps : second - first;
  a.taps = (taps - 1 - first) / step + 1;
  a.tap_begin = first + (a.taps - 1) * step;
  a.tap_step = -step;
  a.offset = (r + pad - a.tap_begin * dilation) / stride;
  a.offset_step = second < 0 ? 1 : step * dilation / stride;
  return a;
}

namespace {

template <class T>
void plan_sweep(Sweep<T>& s) {
  s.panels = panels_of<T>(max_of(s.oc, 1));
  s.depth = s.v.taps * s.u.taps * s.ic;
  s.copies = s.groups > 1 || !inside(s.v, s.h) || !inside(s.u, s.w);
  s.source_columns = s.u.outs && s.u.taps ? s.u.source_end(s.u.outs) - s.u.source_begin(0) : 0;
  const auto rows_of = [&](int64_t rows) {
    return s.v.taps ? s.v.source_end(rows) - s.v.source_begin(0) : 0;
  };
  const int64_t pixel_flops = 2 * s.depth * s.panels.padded() + 1;
  const int64_t outs = max_of(s.u.outs, 1);
  s.rows = max_of(kTaskFlops / (pixel_flops * outs), ceil_div(kTaskPixels, outs));
  s.images = 1;
  if (s.rows >= s.v.outs) {
    s.rows = max_of(s.v.outs, 1);
    const int64_t image_pixels = s.rows * outs;
    const int64_t bytes = rows_of(s.rows) * s.source_columns * s.ic * static_cast<int64_t>(sizeof(T)) + 1;
    s.images = max_of(kTaskFlops / (pixel_flops * image_pixels), ceil_div(kTaskPixels, image_pixels));
    s.images = max_of(min_of(min_of(s.images, kTaskSource / bytes), s.n), 1);
  }
  // Equal parts.
  s.row_blocks = s.v.outs ? ceil_div(s.v.outs, s.rows) : 0;
  if (s.row_blocks) s.rows = ceil_div(s.v.outs, s.row_blocks);
  s.image_blocks = ceil_div(s.n, s.images);
  if (s.image_blocks) s.images = ceil_div(s.n, s.image_blocks);
  s.source_rows = rows_of(s.rows);
  s.skips_rows = s.skips_columns = false;
  s.done = 1;
  if (s.copies && s.v.outs * s.v.taps * s.u.outs * s.u.taps > 0) {
    const Inside v = inside_map(s.v, s.h), u = inside_map(s.u, s.w);
    const auto pays = [&](double saved, int64_t groups) {
      return saved * static_cast<double>(s.images * s.v.outs * s.u.outs) >
             kReachPixels * static_cast<double>(groups);
    };
    const int64_t row_groups = s.row_blocks + v.borders;
    s.skips_rows = pays(1 - v.part, row_groups);
    s.skips_columns = s.skips_rows && pays(1 - v.part * u.part, row_groups * (1 + u.borders)) &&
                      pays(v.part * (1 - u.part), row_groups * u.borders);
    s.done = (s.skips_rows ? v.part : 1) * (s.skips_columns ? u.part : 1);
  }
  // Every task of a panel block copies its source anew: a few panels each.
  const int64_t panel_flops = 2 * s.depth * s.panels.width() * s.pixels() + 1;
  s.task_panels = min_of(max_of(kTaskFlops / panel_flops, 4), s.panels.count);
  s.panel_blocks = ceil_div(s.panels.count, s.task_panels);
  s.task_panels = ceil_div(s.panels.count, s.panel_blocks);
}

}  // namespace

template <class T>
Sweep<T> forward_sweep(const ConvShape& s) {
  Sweep<T> f{};
  f.v = forward_axis(s.oh, s.kh, s.sh, s.dh, s.pt);
  f.u = forward_axis(s.ow, s.kw, s.sw, s.dw, s.pl);
  f.n = s.n, f.h = s.h, f.w = s.w, f.c = s.c;
  f.groups = s.groups, f.ic = s.c / s.groups, f.oc = s.oc / s.groups;
  f.out_h = s.oh, f.out_w = s.ow;
  f.direct = s.direct != 0;
  f.lasting = s.lasting != 0;
  plan_sweep(f);
  return f;
}

template <class T>
Sweep<T> pool_sweep(const ConvShape& s) {
  ConvShape even = s;  // what no window holds is not computed
  even.oh -= s.oh % 2, even.ow -= s.ow % 2;
  return forward_sweep<T>(even);
}

template <class T>
Sweep<T> grad_sweep(const ConvShape& s, int64_t residue) {
  Sweep<T> g{};
  g.v = grad_axis(s.h, s.kh, s.sh, s.dh, s.pt, residue / s.sw);
  g.u = grad_axis(s.w, s.kw, s.sw, s.dw, s.pl, residue % s.sw);
  if (g.v.taps == 0 || g.u.taps == 0) g.v.taps = g.u.taps = 0;
  g.n = s.n, g.h = s.oh, g.w = s.ow, g.c = s.oc;
  g.groups = s.groups, g.ic = s.oc / s.groups, g.oc = s.c / s.groups;
  g.out_h = s.h, g.out_w = s.w;
  g.direct = s.direct != 0;
  g.lasting = s.lasting != 0;
  plan_sweep(g);
  return g;
}

template <class T>
Sweep<T> whole_images(Sweep<T> s, int64_t images) {
  s.n = s.images = images;
  s.rows = s.v.outs;
  s.source_rows = s.v.outs && s.v.taps ? s.v.source_end(s.v.outs) - s.v.source_begin(0) : 0;
  s.task_panels = s.panels.count;
  s.image_blocks = s.row_blocks = s.panel_blocks = 1;
  return s;
}

template <class T>
int64_t pixels_scratch(const Sweep<T>& s) {
  const int64_t pointers = 2 * (s.pixels() + kSparePixels) * static_cast<int64_t>(sizeof(void*));
  const int64_t offsets = 2 * s.v.taps * s.u.taps * static_cast<int64_t>(sizeof(int64_t));
  const int64_t source = s.copies ? s.images * s.source_rows * s.source_columns * s.ic : 0;
  return round_up(pointers, 64) + round_up(offsets, 64) + source * static_cast<int64_t>(sizeof(T));
}

template <class T>
Pixels<T> find_pixels(const Sweep<T>& s, const T* x, T* y, void* scratch, int64_t task, bool apart) {
  int64_t rest = task / s.panel_blocks;
  Pixels<T> f{};
  f.group = rest % s.groups;
  rest /= s.groups;
  const int64_t row0 = rest % s.row_blocks * s.rows, row1 = min_of(row0 + s.rows, s.v.outs);
  const int64_t image0 = rest / s.row_blocks * s.images, image1 = min_of(image0 + s.images, s.n);

  char* memory = static_cast<char*>(scratch);
  const T** a = f.source = reinterpret_cast<const T**>(memory);
  T** c = f.out = reinterpret_cast<T**>(memory) + s.pixels() + kSparePixels;
  memory += round_up(2 * (s.pixels() + kSparePixels) * static_cast<int64_t>(sizeof(void*)), 64);
  f.a_offset = reinterpret_cast<int64_t*>(memory);
  f.b_offset = f.a_offset + s.v.taps * s.u.taps;
  memory += round_up(2 * s.v.taps * s.u.taps * static_cast<int64_t>(sizeof(int64_t)), 64);
  T* source = reinterpret_cast<T*>(memory);

  f.pixel_step = s.copies ? s.ic : s.c;
  f.row_step = f.pixel_step * (s.copies ? s.source_columns : s.w);
  const int64_t out_channels = s.groups * s.oc;
  if (s.copies && s.v.taps) {
    for (int64_t image = image0; image < image1; ++image)
      copy_source(s, x + image * s.h * s.w * s.c, f.group * s.ic, s.v.source_begin(row0),
                  s.v.source_end(row1), source + (image - image0) * s.source_rows * f.row_step);
  }
  int64_t pixels = 0;
  const auto list = [&](const Reach& rows, const Reach& columns) {
    for (int64_t image = image0; image < image1; ++image) {
      const T* base = s.copies ? source + (image - image0) * s.source_rows * f.row_step
                               : x + image * s.h * s.w * s.c + s.v.source_begin(row0) * f.row_step +
                                     s.u.source_begin(0) * f.pixel_step;
      for (int64_t t = rows.from; t < rows.to; ++t) {
        const T* from = base + (t - row0) * s.v.source_step * f.row_step;
        T* to =
            y +
            ((image * s.out_h + s.v.out_begin + t * s.v.out_step) * s.out_w + s.u.out_begin) * out_channels +
            f.group * s.oc;
        for (int64_t q = columns.from; q < columns.to; ++q, ++pixels) {
          a[pixels] = from + q * s.u.source_step * f.pixel_step;
          c[pixels] = to + q * s.u.out_step * out_channels;
        }
      }
    }
  };
  if (apart)
    each_reach(s, row0, row1, list);
  else
    list({row0, row1, 0, s.v.taps}, {0, s.u.outs, 0, s.u.taps});
  f.count = pixels;
  f.images = image1 - image0, f.row0 = row0, f.row1 = row1;
  for (int64_t i = 0; pixels && i < kSparePixels; ++i) {
    a[pixels + i] = a[pixels - 1];
    c[pixels + i] = c[pixels - 1];
  }
  return f;
}

namespace {

constexpr int64_t kPackRows = 64;

template <class T>
int64_t direct_tasks(const Sweep<T>& s) {
  return s.tasks();
}

// Tap i, j of v, u holds ic rows of a panel's width, at ((i * u.taps + j) * ic) * width; panel after panel, group after group.
template <class T>
int64_t direct_packed_bytes(const Sweep<T>& s) {
  return round_up(s.groups * s.depth * s.panels.padded() * static_cast<int64_t>(sizeof(T)), 64);
}
template <class T>
int64_t direct_pack_tasks(const Sweep<T>& s) {
  return s.groups * s.v.taps * s.u.taps * ceil_div(s.ic, kPackRows);
}
template <class T>
void direct_pack(const Sweep<T>& s, const WeightsAt<T>& w, void* packed, int64_t task) {
  const int64_t pieces = ceil_div(s.ic, kPackRows), taps = s.v.taps * s.u.taps;
  const int64_t k = task % pieces * kPackRows, tap = task / pieces % taps, group = task / pieces / taps;
  const T* from = w.tap(s, tap / s.u.taps, tap % s.u.taps) + k * w.k_step + group * w.group_step;
  for (int64_t j = 0; j < s.panels.count; ++j) {
    const int64_t width = int64_t{s.panels.vectors(j)} * Vec<T>::lanes;
    T* to = static_cast<T*>(packed) + s.depth * (group * s.panels.padded() + s.panels.begin(j)) +
            (tap * s.ic + k) * width;
    pack_panel(to, width, from + s.panels.begin(j) * w.o_step, w.k_step, w.o_step,
               min_of(s.ic - k, kPackRows), s.panels.columns(j));
  }
}

// What pixels alike have in common: the blocks of k inside the map (TileCall), all of one length, `run`; `whole` with the taps outside.
struct Blocks {
  int64_t count, run, whole;
};

// Sums `blocks` of a panel of weights for some pixels. A long sum is cut at the same numbers k whatever is skipped, so that skipping
// changes no bit: it is decided by how many images a task has.
template <class T>
void sum_pixels(const Sweep<T>& s, const T* const* a, T* const* c, int64_t count, const Deal<T>& deal,
                const Blocks& blocks, TileCall<T> call, const T* bias, int64_t relu) {
  const int64_t *a_offset = call.a_offset, *b_offset = call.b_offset;
  const auto last = [&] {
    call.bias = bias;
    call.relu = relu;
  };
  call.blocks = blocks.count;
  call.depth = blocks.run;
  if (s.depth <= kWholeDepth || blocks.count == 0) {
    last();
    run_rows(a, c, count, deal, call);
  } else if (blocks.whole <= kCutDepth) {
    const int64_t together = kCutDepth / blocks.whole * blocks.whole * call.ldb;
    for (int64_t b = 0, end = 0; b < blocks.count; b = end) {
      while (end < blocks.count && b_offset[end] / together == b_offset[b] / together) ++end;
      call.blocks = end - b;
      call.a_offset = a_offset + b;
      call.b_offset = b_offset + b;
      if (end == blocks.count) last();
      run_rows(a, c, count, deal, call);
      call.accumulate = 1;
    }
  } else {
    const int64_t piece = ceil_div(blocks.whole, ceil_div(blocks.whole, kCutDepth));
    call.blocks = 1;
    for (int64_t b = 0; b < blocks.count; ++b) {
      const int64_t begin = b_offset[b] / call.ldb % blocks.whole, end = begin + blocks.run;
      for (int64_t k = begin; k < end; k += call.depth) {
        const int64_t a_at = a_offset[b] + k - begin, b_at = b_offset[b] + (k - begin) * call.ldb;
        call.a_offset = &a_at;
        call.b_offset = &b_at;
        call.depth = min_of(round_up(k + 1, piece), end) - k;
        if (b == blocks.count - 1 && k + call.depth == end) last();
        run_rows(a, c, count, deal, call);
        call.accumulate = 1;
      }
    }
  }
}

template <class T>
void direct_run(const Sweep<T>& s, const T* x, const WeightsAt<T>& w, const void* packed, const T* bias,
                int64_t relu, T* y, void* scratch, int64_t task) {
  const int64_t panel_block = task % s.panel_blocks;
  const Pixels<T> pixels = find_pixels(s, x, y, scratch, task, true);
  if (!pixels.count) return;
  const int64_t group = pixels.group, pixel_step = pixels.pixel_step;
  // Taps next to each other in memory are one run.
  const bool merged = s.u.taps == 1 || (s.u.offset_step == 1 && pixel_step == s.ic);
  const int64_t panel_end = min_of((panel_block + 1) * s.task_panels, s.panels.count);
  int deal_vectors = s.panels.vectors(panel_block * s.task_panels);
  Deal<T> deal(row_tiles<T>(deal_vectors), deal_vectors, false);
  for (int64_t j = panel_block * s.task_panels; j < panel_end; ++j) {
    const int nv = s.panels.vectors(j);
    if (nv != deal_vectors) {
      deal = Deal<T>(row_tiles<T>(nv), nv, false);
      deal_vectors = nv;
    }
    const int64_t ldb = packed ? int64_t{nv} * Vec<T>::lanes : w.k_step;
    const T* weights =
        packed ? static_cast<const T*>(packed) + s.depth * (group * s.panels.padded() + s.panels.begin(j))
               : w.base + group * w.group_step + s.panels.begin(j);
    const TileCall<T> call{0, pixels.a_offset,   pixels.b_offset,     0,       weights, ldb,
                           0, s.panels.begin(j), s.panels.columns(j), nullptr, 0,       0};
    const T* panel_bias = bias ? bias + group * s.oc + s.panels.begin(j) : nullptr;
    int64_t done = 0;
    each_reach(s, pixels.row0, pixels.row1, [&](const Reach& rows, const Reach& columns) {
      const int64_t taps = columns.tap1 - columns.tap0;
      Blocks blocks{0, merged ? taps * s.ic : s.ic, merged ? s.u.taps * s.ic : s.ic};
      for (int64_t v = rows.tap0; taps && v < rows.tap1; ++v) {
        for (int64_t u = columns.tap0; u < (merged ? columns.tap0 + 1 : columns.tap1); ++u) {
          pixels.a_offset[blocks.count] =
              v * s.v.offset_step * pixels.row_step + u * s.u.offset_step * pixel_step;
          pixels.b_offset[blocks.count++] = (v * s.u.taps + u) * s.ic * ldb;
        }
      }
      const int64_t count = pixels.images * (rows.to - rows.from) * (columns.to - columns.from);
      sum_pixels(s, pixels.source + done, pixels.out + done, count, deal, blocks, call, panel_bias, relu);
      done += count;
    });
  }
}

}  // namespace

template <class T>
SweepWay<T> direct_way() {
  return {direct_pack_tasks<T>, direct_packed_bytes<T>, direct_pack<T>,
          direct_tasks<T>,      pixels_scratch<T>,      direct_run<T>};
}

Vec<float> sweep_numbers(const Sweep<float>& s, const WeightsAt<float>& w, const float* x, int64_t image,
                         int64_t t, int64_t q, int64_t o, int64_t n, const Reading& reading) {
  const ReadMap map{x, s.h, s.w, s.c, reading};
  Vec<float> sums = zero<float>();
  for (int64_t a = 0; a < s.v.taps; ++a) {
    for (int64_t b = 0; b < s.u.taps; ++b) {
      const int64_t row = t * s.v.source_step + s.v.offset + a * s.v.offset_step;
      const int64_t column = q * s.u.source_step + s.u.offset + b * s.u.offset_step;
      const float* weight = w.tap(s, a, b) + o * w.o_step;
      for (int64_t k = 0; k < s.ic; ++k, weight += w.k_step) {
        float apart[Vec<float>::lanes] = {};
        if (w.o_step != 1)
          for (int64_t l = 0; l < n; ++l) apart[l] = weight[l * w.o_step];
        const Vec<float> weights = w.o_step == 1 ? load_n(weight, n) : load(apart);
        fma_to(sums, set1(map.at(image, row, column, k)), weights);
      }
    }
  }
  return sums;
}

template Sweep<float> forward_sweep<float>(const ConvShape&);
template Sweep<double> forward_sweep<double>(const ConvShape&);
template Sweep<float> pool_sweep<float>(const ConvShape&);
template Sweep<double> pool_sweep<double>(const ConvShape&);
template Sweep<float> grad_sweep<float>(const ConvShape&, int64_t);
template Sweep<double> grad_sweep<double>(const ConvShape&, int64_t);
template Sweep<float> whole_images<float>(Sweep<float>, int64_t);
template Sweep<double> whole_images<double>(Sweep<double>, int64_t);
template int64_t pixels_scratch<float>(const Sweep<float>&);
template int64_t pixels_scratch<double>(const Sweep<double>&);
template Pixels<float> find_pixels<float>(const Sweep<float>&, const float*, float*, void*, int64_t, bool);
template Pixels<double> find_pixels<double>(const Sweep<double>&, const double*, double*, void*, int64_t,
                                            bool);
template SweepWay<float> direct_way<float>();
template SweepWay<double> direct_way<double>();

}  // namespace cnnmath::CNNMATH_ISA
