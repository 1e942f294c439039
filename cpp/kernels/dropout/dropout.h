// Dropout: y = x * keep / (1 - p), where keep is 1 with probability 1 - p and else 0; y = 0 * x for p = 1.
//
// The random number of element i is a function of the key (seed, counter), the number of the op in its
// program and i: Philox4x32-10 (Salmon et al. 2011) with the words of the seed as key and {block, high word
// of the block xor number << 16, counter} as counter. A block is 16 consecutive counters and serves 64
// elements: word w of counter 16 b + j belongs to element 64 b + 16 w + j. An element is dropped if its word
// is less than p * 2^32.
//
//   dropout           args key p x y state;  state (3 x int64) takes seed, counter and the bits of p
//   dropout_backward  args dy state dx: the same mask again, from the state; no mask is stored
//
// Fields    size, number (of the random op in its program)
// Aliasing  y may be x, dx may be dy.
#pragma once
#include "core/kernel.h"
#include "simd/vec.h"

namespace cnnmath::CNNMATH_ISA {

struct DropoutShape {
  int64_t size, number;
};

}  // namespace cnnmath::CNNMATH_ISA
