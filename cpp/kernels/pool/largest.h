// The largest of a window, and its place: the first of equal ones, and NaN before every number.
#pragma once
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

template <class T>
struct Largest {
  Vec<T> value;
  Int<T> place;
  CNNMATH_INLINE void meet(Vec<T> a, int at) {
    const Mask<T> better = gt(a, value) | ne(a, a);
    value = select(better, a, value);
    place = select(better, set1_int<T>(static_cast<typename Int<T>::Lane>(at)), place);
  }
};

}  // namespace cnnmath::CNNMATH_ISA
