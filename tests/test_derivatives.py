"""vjp, grad, value_and_grad, gradcheck and ops of one's own: values, forms and refusals."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath
import cnnmath.functional as F
from cnnmath import nn


def square_sum(x: Any) -> Any:
    return F.sum(F.mul(x, x))


class Square(cnnmath.Function):
    """y = x^2, dx = 2 x dy."""

    def shape(self, x: Any) -> Any:
        return x

    def forward(self, x: Any) -> Any:
        return x * x

    def backward(self, grads: Any, x: Any) -> Any:
        return 2 * x * grads[0]


# vjp

LINKS = {
    "conv": lambda x, w, b, v: F.conv2d(x, w, b, padding=1),
    "norm": lambda x, w, b, v: F.batch_norm(x, np.full(b.shape[0], 0.3), np.full(b.shape[0], 1.5), v, b),
    "training_norm": lambda x, w, b, v: F.batch_norm(x, None, None, v, b, training=True),
    "relu": lambda x, w, b, v: F.relu(x),
    "max_pool": lambda x, w, b, v: F.max_pool2d(x, 2, padding=0) if min(x.shape[2:]) > 1 else x,
    "shortcut": lambda x, w, b, v: F.add(F.conv2d(x, w, b, padding=1), x),
}  # fmt: skip


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("links", list(itertools.product(LINKS, repeat=3)), ids="-".join)
def test_chains_of_ops(links: tuple[str, ...], channels: int) -> None:
    """What one op takes over from its neighbours, in vjp (two plans) and in value_and_grad (one), by slopes."""
    rng = np.random.default_rng(len(links))
    arrays = [
        rng.standard_normal((2, channels, 9, 8)),
        rng.standard_normal((channels, channels, 3, 3)) / 3,
        rng.standard_normal(channels),
        rng.uniform(0.5, 2, channels),
    ]

    def chain(*args: Any) -> Any:
        x = args[0]
        for link in links:
            x = LINKS[link](x, *args[1:])
        return x

    out, pullback = cnnmath.vjp(chain, *arrays)
    cotangent = rng.standard_normal(out.shape)
    apart = pullback(cotangent)
    value, together = cnnmath.value_and_grad(
        lambda *args: F.sum(F.mul(chain(*args), cotangent)), tuple(range(4))
    )(*arrays)
    assert value == pytest.approx(np.sum(out * cotangent))
    step = 1e-6
    for i in range(len(arrays)):
        direction = rng.standard_normal(arrays[i].shape)
        ahead, behind = (
            chain(*(a + sign * step * direction if i == j else a for j, a in enumerate(arrays)))
            for sign in (1, -1)
        )
        slope = np.sum((ahead - behind) * cotangent) / (2 * step)
        for grads in (apart, together):
            assert np.sum(grads[i] * direction) == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_vjp_of_the_worked_example() -> None:
    """A 5x5 image with rows 4 3 2 1 0, a kernel with rows 1 0 -1: 6 everywhere, 3 * (4 + 0 - 2) at (0, 0) too."""
    image = np.tile([4.0, 3.0, 2.0, 1.0, 0.0], (5, 1)).reshape(1, 1, 5, 5)
    kernel = np.tile([1.0, 0.0, -1.0], (3, 1)).reshape(1, 1, 3, 3)
    out, pullback = cnnmath.vjp(F.conv2d, image, kernel)
    assert out.tolist() == [[[[6.0] * 3] * 3]]
    grad_image, grad_kernel = pullback(np.ones_like(out))
    assert grad_kernel.tolist() == [[[[27.0, 18.0, 9.0]] * 3]]
    # Each pixel's gradient is the sum of the weights that it meets.
    want = np.zeros((5, 5))
    for i in range(3):
        for j in range(3):
            want[i : i + 3, j : j + 3] += kernel[0, 0]
    assert np.array_equal(grad_image[0, 0], want)


def test_vjp_of_a_tuple() -> None:
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    out, pullback = cnnmath.vjp(lambda x, y: (F.mul(x, y), F.sum(x)), x, y)
    assert isinstance(out, tuple) and out[0].tolist() == [3.0, 8.0] and out[1].tolist() == 3.0
    dx, dy = pullback((np.array([1.0, 10.0]), 100.0))
    assert dx.tolist() == [103.0, 140.0] and dy.tolist() == [1.0, 20.0]


def test_pullback_may_be_called_again() -> None:
    x = np.array([1.0, -2.0])
    out, pullback = cnnmath.vjp(F.tanh, x)
    one, two = pullback(np.ones(2))[0], pullback(2 * np.ones(2))[0]
    np.testing.assert_allclose(one, 1 - np.tanh(x) ** 2, rtol=1e-14)
    assert np.array_equal(two, 2 * one)
    assert not np.shares_memory(one, two) and not np.shares_memory(out, x)


def test_pullback_holds_its_own_residuals() -> None:
    """What the caller does to the result afterwards does not reach the gradient."""
    x = np.array([0.5, -1.5])
    out, pullback = cnnmath.vjp(F.sigmoid, x)
    want = out * (1 - out)
    out[...] = 99
    np.testing.assert_allclose(pullback(np.ones(2))[0], want, rtol=1e-14)


def test_pullback_is_taken_where_the_arrays_were() -> None:
    x = np.array([2.0, 3.0])
    _, pullback = cnnmath.vjp(lambda x: F.mul(x, x), x)
    x[...] = 100
    assert pullback(np.ones(2))[0].tolist() == [4.0, 6.0]


def test_unused_and_whole_number_inputs() -> None:
    x, unused, target = np.array([[1.0, 2.0]]), np.ones((3, 2)), np.array([1])
    out, pullback = cnnmath.vjp(lambda x, unused, t: F.cross_entropy(x, t), x, unused, target)
    dx, d_unused, d_target = pullback(1.0)
    p = np.exp(x) / np.exp(x).sum()
    np.testing.assert_allclose(dx, p - [[0, 1]], rtol=1e-13)
    assert d_unused.tolist() == np.zeros((3, 2)).tolist()
    assert d_target is None
    np.testing.assert_allclose(out, -np.log(p[0, 1]), rtol=1e-13)


def test_an_output_that_is_an_input() -> None:
    x = np.array([1.0, 2.0])
    out, pullback = cnnmath.vjp(lambda x: (x, F.relu(x)), x)
    assert not np.shares_memory(out[0], x)
    assert pullback((np.array([1.0, 1.0]), np.array([10.0, 10.0])))[0].tolist() == [11.0, 11.0]


def test_a_constant_output_has_zero_gradient() -> None:
    x = np.array([1.0, 2.0])
    _, pullback = cnnmath.vjp(lambda x: F.relu(np.ones(3)), x)
    assert pullback(np.ones(3))[0].tolist() == [0.0, 0.0]


def test_one_array_used_many_times() -> None:
    x = np.array([3.0])
    out, pullback = cnnmath.vjp(lambda x: x * x * x + x, x)
    assert out.tolist() == [30.0] and pullback(np.ones(1))[0].tolist() == [28.0]


@pytest.mark.parametrize(
    ("cotangent", "error", "message"),
    [
        (np.ones(3), ValueError, r"pullback: expected a cotangent of shape \(2,\), got \(3,\)"),
        (np.ones(2, np.float32), TypeError, "pullback: expected a cotangent of dtype float64, got float32"),
        ((np.ones(2), np.ones(2)), ValueError, "pullback: expected 1 cotangents, got 2"),
    ],
)
def test_pullback_refuses(cotangent: Any, error: type, message: str) -> None:
    _, pullback = cnnmath.vjp(F.relu, np.ones(2))
    with pytest.raises(error, match=message):
        pullback(cotangent)


def test_vjp_of_float32_stays_float32() -> None:
    out, pullback = cnnmath.vjp(lambda x: 2 * F.relu(x) + 1, np.ones(2, np.float32))
    assert out.dtype == np.float32 and pullback(np.ones(2, np.float32))[0].dtype == np.float32


@given(st.integers(0, 2**32), st.sampled_from([(3,), (2, 4), (1, 2, 3), (2, 3, 4, 5), (0, 3)]))
def test_vjp_is_linear_in_the_cotangent(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    x, u, v = rng.standard_normal((3, *shape))
    _, pullback = cnnmath.vjp(lambda x: F.tanh(F.mul(x, F.sigmoid(x))), x)
    np.testing.assert_allclose(
        pullback(2 * u + v)[0], 2 * pullback(u)[0] + pullback(v)[0], rtol=1e-12, atol=1e-12
    )


# grad and value_and_grad


def test_grad() -> None:
    assert cnnmath.grad(square_sum)(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]
    value, g = cnnmath.value_and_grad(square_sum)(np.array([1.0, 2.0]))
    assert value == 5.0 and g.tolist() == [2.0, 4.0]


def test_derivatives_of_derivatives() -> None:
    def cube(x: Any) -> Any:
        return F.sum(F.mul(F.mul(x, x), x))

    x = np.array([1.0, 2.0])
    first = cnnmath.grad(cube)
    second = cnnmath.grad(lambda x: F.sum(first(x)))
    third = cnnmath.grad(lambda x: F.sum(second(x)))
    np.testing.assert_allclose(first(x), 3 * x**2)
    np.testing.assert_allclose(second(x), 6 * x)
    np.testing.assert_allclose(third(x), [6, 6])
    (product,) = cnnmath.vjp(first, x)[1](np.array([1.0, 10.0]))  # of the Hessian and a vector
    assert product is not None
    np.testing.assert_allclose(product, [6.0, 120.0])


def test_the_gradient_of_a_modules_gradient(rng: np.random.Generator) -> None:
    """A penalty on the norm of the gradient, sum of (dL/dw)^2: its gradient by finite differences."""
    layer = nn.Linear(3, 1, bias=False).double()
    x = rng.standard_normal((4, 3))
    inner = cnnmath.value_and_grad(lambda x: F.mean(F.mul(layer(x), layer(x))), layer)

    def penalty(x: Any) -> Any:
        _, grads = inner(x)
        return F.sum(F.mul(grads["weight"], grads["weight"]))

    assert cnnmath.gradcheck(penalty, (x,))


def test_grad_with_respect_to_several() -> None:
    fn = cnnmath.value_and_grad(lambda x, y, k=1.0: F.sum(x * y) * k, wrt=(1, 0))
    value, (dy, dx) = fn(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert value == 11 and dy.tolist() == [1, 2] and dx.tolist() == [3, 4]
    value, (dy, _) = fn(np.array([1.0, 2.0]), np.array([3.0, 4.0]), k=2.0)
    assert value == 22 and dy.tolist() == [2, 4]


def test_value_and_grad_hands_the_rest_through() -> None:
    fn = cnnmath.value_and_grad(lambda x: (square_sum(x), F.relu(x)))
    (loss, rest), g = fn(np.array([-1.0, 2.0]))
    assert loss == 5 and rest.tolist() == [0, 2] and g.tolist() == [-2, 4]


def test_unused_argument_has_zero_gradient() -> None:
    g = cnnmath.grad(lambda x, y: square_sum(x), wrt=1)(np.ones(2), np.ones((2, 3), np.float32))
    assert g.dtype == np.float32 and g.tolist() == [[0.0] * 3] * 2


def test_a_loss_must_be_a_scalar() -> None:
    with pytest.raises(
        ValueError, match=r"value_and_grad: expected a scalar loss, got .*; take its mean or sum"
    ):
        cnnmath.grad(F.relu)(np.ones(3))


def test_traced_once_for_each_shape() -> None:
    traces: list[int] = []

    def fn(x: Any) -> Any:
        traces.append(1)
        return square_sum(x)

    g = cnnmath.grad(fn)
    for n in (2, 3, 2, 3):
        assert g(np.ones(n)).tolist() == [2.0] * n
    assert len(traces) == 2


def test_gradients_of_a_module_by_name(rng: np.random.Generator) -> None:
    layer = nn.Linear(3, 2).double()
    x = rng.standard_normal((4, 3))
    fn = cnnmath.value_and_grad(lambda x: F.sum(layer(x)), layer)
    value, grads = fn(x)
    assert list(grads) == ["weight", "bias"]
    np.testing.assert_allclose(grads["weight"], np.tile(x.sum(0), (2, 1)), rtol=1e-13)
    assert grads["bias"].tolist() == [4.0, 4.0]
    np.testing.assert_allclose(value, np.sum(x @ layer.weight.numpy().T + layer.bias.numpy()), rtol=1e-12)
    layer.weight.assign(np.zeros((2, 3)))
    assert fn(x)[0] == pytest.approx(4 * layer.bias.numpy().sum())  # the plan reads the weights at each run


def test_frozen_parameters_have_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    fn = cnnmath.value_and_grad(lambda x: F.sum(model(x)), model)
    x = np.ones((1, 2), np.float32)
    assert set(fn(x)[1]) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    model[0].freeze()
    assert set(fn(x)[1]) == {"1.weight", "1.bias"}
    model[0].unfreeze()
    assert len(fn(x)[1]) == 4


# gradcheck


def test_gradcheck_passes() -> None:
    x = np.array([[0.3, -0.7], [1.1, 0.2]])
    assert cnnmath.gradcheck(lambda x: F.tanh(x), [x]) is True
    assert cnnmath.gradcheck(lambda x: (F.sigmoid(x), F.sum(x)), [x])
    assert cnnmath.gradcheck(Square(), [x])
    assert x.tolist() == [[0.3, -0.7], [1.1, 0.2]]


class Wrong(Square):
    def backward(self, grads: Any, x: Any) -> Any:
        found = 2 * x * grads[0]
        found[1] *= 1.01
        return found


def test_gradcheck_finds_a_wrong_gradient() -> None:
    with pytest.raises(
        ValueError, match=r"gradcheck: input 0 at \(1,\): the gradient is .*, finite differences give"
    ) as e:
        cnnmath.gradcheck(Wrong(), [np.array([1.0, 2.0])])
    analytic, numeric = map(float, re.findall(r"(?:is|give) ([-\d.e]+)", str(e.value)))
    assert analytic == pytest.approx(1.01 * numeric, rel=1e-6)


def test_gradcheck_finds_nan() -> None:
    class Nan(Square):
        def backward(self, grads: Any, x: Any) -> Any:
            return x * np.nan

    with pytest.raises(ValueError, match="the gradient is nan"):
        cnnmath.gradcheck(Nan(), [np.array([1.0])])


def test_gradcheck_wants_float64() -> None:
    with pytest.raises(TypeError, match="gradcheck: expected at least one float64 input"):
        cnnmath.gradcheck(F.relu, [np.ones(2, np.float32)])


def test_gradcheck_passes_on_what_is_not_float64() -> None:
    target = np.array([0, 2])
    assert cnnmath.gradcheck(F.cross_entropy, [np.array([[0.1, 0.2, 0.3], [1.0, -1.0, 0.5]]), target])


# Function


def test_function_eager_traced_and_differentiated() -> None:
    x = np.array([1.0, -3.0])
    square = Square()
    assert square(x).tolist() == [1.0, 9.0]
    out, pullback = cnnmath.vjp(lambda x: F.relu(F.neg(square(F.add(x, 1.0)))), x)
    assert out.tolist() == [0.0, 0.0]
    out, pullback = cnnmath.vjp(lambda x: F.mul(square(F.mul(x, 2.0)), 3.0), x)
    assert out.tolist() == [12.0, 108.0] and pullback(np.ones(2))[0].tolist() == [24.0, -72.0]


def test_function_of_rank_4_sees_logical_arrays(rng: np.random.Generator) -> None:
    class Flip(cnnmath.Function):
        def shape(self, x: Any) -> Any:
            return (x[0], x[1], x[3], x[2])

        def forward(self, x: Any) -> Any:
            assert x.shape == (2, 3, 4, 5)
            return x.transpose(0, 1, 3, 2)

        def backward(self, grads: Any, x: Any) -> Any:
            return grads[0].transpose(0, 1, 3, 2)

    x, v = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 5, 4))
    out, pullback = cnnmath.vjp(Flip(), x)
    assert np.array_equal(out, x.transpose(0, 1, 3, 2))
    assert np.array_equal(pullback(v)[0], v.transpose(0, 1, 3, 2))


def test_function_with_several_inputs_and_outputs() -> None:
    class SumAndProduct(cnnmath.Function):
        def shape(self, a: Any, b: Any) -> Any:
            return a, b

        def forward(self, a: Any, b: Any) -> Any:
            return a + b, a * b

        def backward(self, grads: Any, a: Any, b: Any) -> Any:
            return grads[0] + b * grads[1], None

    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    out, pullback = cnnmath.vjp(SumAndProduct(), a, b)
    assert [o.tolist() for o in out] == [[4, 6], [3, 8]]
    da, db = pullback((np.ones(2), np.ones(2)))
    assert da.tolist() == [4, 5] and db.tolist() == [0, 0]
    dx = cnnmath.vjp(lambda a, b: SumAndProduct()(a, b)[1], a, b)[1](np.ones(2))[0]
    assert dx.tolist() == [3, 4]  # the other output's gradient is zeros


def test_function_refuses() -> None:
    class BadShape(Square):
        def forward(self, x: Any) -> Any:
            return np.zeros(5)

    class BadCount(Square):
        def forward(self, x: Any) -> Any:
            return x, x

    class NoBackward(cnnmath.Function):
        def shape(self, x: Any) -> Any:
            return x

        def forward(self, x: Any) -> Any:
            return x

    class Raises(Square):
        def forward(self, x: Any) -> Any:
            raise ArithmeticError("mine")

    x = np.ones(3)
    with pytest.raises(ValueError, match=r"BadShape: expected a result of shape \(3,\), got \(5,\)"):
        BadShape()(x)
    with pytest.raises(ValueError, match="BadCount: expected 1 results, got 2"):
        BadCount()(x)
    with pytest.raises(ValueError, match="NoBackward has no backward"):
        cnnmath.vjp(NoBackward(), x)[1](x)
    for _ in range(2):  # the user's own error comes through, and the next run is not harmed
        with pytest.raises(ArithmeticError, match="mine"):
            Raises()(x)
    assert Square()(x).tolist() == [1.0] * 3


def test_function_may_keep_its_arrays() -> None:
    """forward gets copies: what a Function keeps does not change with the next run."""
    kept: list[np.ndarray] = []

    class Keep(Square):
        def forward(self, x: Any) -> Any:
            kept.append(x)
            return x * x

    keep = Keep()
    for value in (1.0, 2.0):
        cnnmath.vjp(lambda x: F.neg(keep(F.neg(x))), np.full(4, value))
    assert [k.tolist() for k in kept] == [[-1.0] * 4, [-2.0] * 4]


def test_a_float32_function() -> None:
    out = Square()(np.ones(2, np.float32))
    assert out.dtype == np.float32


def test_a_python_number_is_an_array_of_float64() -> None:
    assert cnnmath.value_and_grad(lambda x: x * x)(3.0) == (9.0, 6.0)
    with pytest.raises(TypeError, match="argument 0 expects an array, got list"):
        cnnmath.grad(lambda x: F.sum(x))([1.0, 2.0])


def test_a_pullback_refuses_parameters_that_have_changed() -> None:
    weight = nn.Parameter(np.ones((1, 2)))
    x = np.array([[1.0, 2.0]])
    _, pullback = cnnmath.vjp(lambda x: F.linear(x, weight), x)
    assert pullback(np.ones((1, 1)))[0].tolist() == [[1.0, 1.0]]
    weight[...] = 5.0
    with pytest.raises(RuntimeError, match="has changed since vjp ran"):
        pullback(np.ones((1, 1)))
