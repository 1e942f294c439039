// The gradient of the weights in groups of few channels, out of that without groups: with few channels in all, their sums for all pairs
// of an input and an output take less than to keep the groups apart. The last phase takes the blocks that belong to a group; no number of it
// has met one of another group.
#include "kernels/conv/grouped.h"
#include "simd/whole.h"

namespace cnnmath::CNNMATH_ISA {

namespace {

// The same layer without groups, and how its gradient is computed.
template <class T>
struct Whole {
  ConvShape shape;
  ConvPart part;
  explicit Whole(const ConvShape& s) : shape(s) {
    shape.groups = 1;
    shape.direct = 1;  // Winograd's filtering is not for groups
    part = grad_weight_part_of<T>(shape);
  }
  const int64_t* p() const { return reinterpret_cast<const int64_t*>(&shape); }
  int64_t bytes() const {
    return round_up(shape.kh * shape.kw * shape.c * shape.oc * static_cast<int64_t>(sizeof(T)), 64);
  }
};

template <class T>
int phases(const int64_t* p) {
  const Whole<T> whole(conv_shape(p));
  return whole.part.phases(whole.p()) + 1;
}
template <class T>
int64_t tasks(const int64_t* p, int phase) {
  const Whole<T> whole(conv_shape(p));
  return phase < whole.part.phases(whole.p()) ? whole.part.tasks(whole.p(), phase) : 1;
}
template <class T>
int64_t workspace(const int64_t* p) {
  const Whole<T> whole(conv_shape(p));
  return whole.bytes() + whole.part.workspace(whole.p());
}
template <class T>
int64_t scratch(const int64_t* p) {
  const Whole<T> whole(conv_shape(p));
  return whole.part.scratch(whole.p());
}

template <class T>
void run(const Task& t) {
  const ConvShape& s = conv_shape(t.p);
  const Whole<T> whole(s);
  T* sums = static_cast<T*>(t.workspace);
  if (t.phase < whole.part.phases(whole.p())) {
    void* const arguments[] = {t.a[0], t.a[1], sums};
    void* const rest = static_cast<char*>(t.workspace) + whole.bytes();
    whole.part.run({whole.p(), arguments, rest, t.scratch, t.phase, t.index});
    return;
  }
  T* dw = static_cast<T*>(t.a[2]);
  const int64_t ic = s.c / s.groups, oc = s.oc / s.groups;
  for (int64_t tap = 0; tap < s.kh * s.kw; ++tap)
    for (int64_t k = 0; k < ic; ++k, dw += s.oc)
      for (int64_t o = 0; o < s.oc; ++o) dw[o] = sums[(tap * s.c + o / oc * ic + k) * s.oc + o];
}

}  // namespace

// Tenths of a cycle for a pixel.
template <class T>
bool block_grad_weight_pays(const ConvShape& s) {
  constexpr int64_t L = Vec<T>::lanes;
  if (s.groups <= 1 || s.c * s.oc == 0) return false;
  const int64_t ic = s.c / s.groups, oc = s.oc / s.groups, taps = s.kh * s.kw;
  const int64_t at_once = 8 * taps * min_of(s.c * ceil_div(s.oc, L), s.oc * ceil_div(s.c, L)) + 200;
  // The planes of grouped_grad_weight.cpp, which it goes through again for each run of taps. And each group by itself: less than eight
  // sums at a time wait for each other.
  const int64_t runs = s.dw == 1 ? s.kh : taps, pieces = (L - 1) / oc * ic / L + 1;
  const int64_t together = 12 * ceil_div(s.oc, L) * (ic * (taps + pieces + 1) + 14 + 3 * runs);
  const int64_t sums = max_of((merges_taps(s) ? s.kw : 1) * ic * ceil_div(oc, L), 8);
  const int64_t apart = 9 * s.groups * (s.kh * (merges_taps(s) ? 1 : s.kw) * sums + 20);
  return at_once < min_of(together, apart);
}

#define PARTS(T)                                                    \
  template bool block_grad_weight_pays<T>(const ConvShape&);        \
  template <>                                                       \
  ConvPart block_grad_weight_part<T>() {                            \
    return {phases<T>, tasks<T>, workspace<T>, scratch<T>, run<T>}; \
  }
PARTS(float)
PARTS(double)

}  // namespace cnnmath::CNNMATH_ISA
