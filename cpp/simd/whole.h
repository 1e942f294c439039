// Arithmetic of whole numbers, for sizes and how they are cut.
#pragma once
#include <cstdint>

namespace cnnmath::CNNMATH_ISA {

static constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static constexpr int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static constexpr int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace cnnmath::CNNMATH_ISA
