// The functions that the loops apply, on vectors. `c` is the call's scalar where it has one.
#pragma once
#include "simd/math.h"

namespace cnnmath::CNNMATH_ISA {
namespace op {

#define CNNMATH_UNARY(Name, expression)                                                        \
  template <class T>                                                                           \
  struct Name {                                                                                \
    static CNNMATH_INLINE Vec<T> f(Vec<T> x, [[maybe_unused]] Vec<T> c) { return expression; } \
  };
#define CNNMATH_BINARY(Name, expression)                                                                 \
  template <class T>                                                                                     \
  struct Name {                                                                                          \
    static CNNMATH_INLINE Vec<T> f(Vec<T> a, Vec<T> b, [[maybe_unused]] Vec<T> c) { return expression; } \
  };

CNNMATH_UNARY(Relu, max(zero<T>(), x))  // max hands on its second operand where it is NaN
CNNMATH_UNARY(LeakyRelu, select(gt(x, zero<T>()), x, c* x))
CNNMATH_UNARY(Sigmoid, sigmoid(x))
CNNMATH_UNARY(Tanh, tanh(x))
CNNMATH_UNARY(Neg, -x)
CNNMATH_UNARY(Abs, abs(x))
CNNMATH_UNARY(Exp, exp(x))
CNNMATH_UNARY(Log, log(x))
CNNMATH_UNARY(Sqrt, sqrt(x))
CNNMATH_UNARY(Copy, x)
CNNMATH_UNARY(Scale, x* c)
CNNMATH_UNARY(AddScalar, x + c)
CNNMATH_UNARY(ScalarSub, c - x)
CNNMATH_UNARY(DivScalar, x / c)
CNNMATH_UNARY(ScalarDiv, c / x)

// gradients: a is dy, b the output (or the input, where the header says so)
CNNMATH_BINARY(ReluGrad, select(le(b, zero<T>()), zero<T>(), a))
CNNMATH_BINARY(LeakyReluGrad, select(gt(b, zero<T>()), a, c* a))
CNNMATH_BINARY(SigmoidGrad, a*(b*(set1<T>(1) - b)))
CNNMATH_BINARY(TanhGrad, a* fnma(b, b, set1<T>(1)))
CNNMATH_BINARY(AbsGrad,
               select(eq(b, zero<T>()), zero<T>(), select(lt(b, zero<T>()), -a, select(ne(b, b), b, a))))

CNNMATH_BINARY(Add, a + b)
CNNMATH_BINARY(Sub, a - b)
CNNMATH_BINARY(Mul, a* b)
CNNMATH_BINARY(Div, a / b)
CNNMATH_BINARY(AddRelu, max(zero<T>(), a + b))
CNNMATH_BINARY(AddScaled, fma(c, b, a))
#undef CNNMATH_UNARY
#undef CNNMATH_BINARY

}  // namespace op
}  // namespace cnnmath::CNNMATH_ISA
