"""Operations without spatial dimensions against PyTorch on generated arguments, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as shapes  # noqa: E402

import cnnmath  # noqa: E402
import cnnmath.functional as F  # noqa: E402

from .generated import DTYPES, Source, check, sources  # noqa: E402

T = torch.nn.functional
any_shape = shapes.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)
lengths = st.sampled_from([0, 1, 2, 3, 7, 8, 16, 33, 65])


@given(sources, st.lists(st.integers(0, 4), max_size=3), lengths, lengths, st.booleans())
def test_linear(source: Source, rows: list[int], n_in: int, n_out: int, with_bias: bool) -> None:
    operands = [source.normal(*rows, n_in), source.normal(n_out, n_in)]
    if with_bias:
        operands.append(source.normal(n_out))
    check(F.linear, T.linear, operands, source, magnitudes=T.linear)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
@given(sources, any_shape)
def test_activations(name: str, source: Source, shape: tuple[int, ...]) -> None:
    theirs = getattr(T if "relu" in name else torch, name)
    check(getattr(F, name), theirs, [source.normal(*shape, deviation=4)], source)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
def test_activations_at_special_values(name: str, dtype: Any) -> None:
    big = np.finfo(dtype).max
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, big, -big, 88.8, -88.8, 104, -104, 710, -710, 1e-30]
    x = np.tile(np.array(special, dtype), 3)
    t = torch.tensor(x).requires_grad_()
    expected = getattr(T if "relu" in name else torch, name)(t)
    (wanted,) = torch.autograd.grad(expected.sum(), [t])
    out, pullback = cnnmath.vjp(getattr(F, name), x)
    (gradient,) = pullback(np.ones_like(x))
    # A subnormal result may be zero: cnnmath flushes these.
    tolerance = {"rtol": 4 * np.finfo(dtype).eps, "atol": float(np.finfo(dtype).tiny)}
    np.testing.assert_allclose(out, expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(gradient, wanted.numpy(), **tolerance)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(sources, shapes.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=20), st.data())
def test_softmax(name: str, source: Source, shape: tuple[int, ...], data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = source.normal(*shape, deviation=data.draw(st.sampled_from([1, 30])))
    check(lambda x: getattr(F, name)(x, dim), lambda x: getattr(torch, name)(x, dim), [x], source)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_at_special_values(name: str, dtype: Any) -> None:
    rows = [
        [1.0, -np.inf, 2.0],
        [-np.inf, -np.inf, -np.inf],
        [np.inf, 0.0, 1.0],
        [np.nan, 0.0, 1.0],
        [1e4, -1e4, 0.0],
        [-1e30, -1e30, -1e30],
    ]
    x = np.array(rows, dtype)
    expected = getattr(torch, name)(torch.tensor(x), 1).numpy()
    np.testing.assert_allclose(getattr(F, name)(x, 1), expected, rtol=4 * np.finfo(dtype).eps)


@given(
    sources, shapes.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=5), st.data()
)
def test_binary_operations(source: Source, pair: Any, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["add", "sub", "mul"]))
    kwargs = {} if name == "mul" else {"alpha": data.draw(st.sampled_from([1, 2, -3.125, 0.0]))}
    operands = [source.normal(*shape) for shape in pair.input_shapes]

    def magnitudes(a: Any, b: Any) -> Any:
        return a * b if name == "mul" else a + b * (abs(kwargs["alpha"]) + 1e-30)

    check(
        lambda a, b: getattr(F, name)(a, b, **kwargs),
        lambda a, b: getattr(torch, name)(a, b, **kwargs),
        operands,
        source,
        magnitudes=magnitudes,
    )


@given(
    sources, any_shape, st.sampled_from(["add", "sub", "mul"]), st.booleans(), st.sampled_from([2, -0.5, 0])
)
def test_binary_operations_with_a_number(
    source: Source, shape: tuple[int, ...], name: str, first: bool, number: float
) -> None:
    def call(fn: Any) -> Any:
        return (lambda x: fn(number, x)) if first else (lambda x: fn(x, number))

    check(call(getattr(F, name)), call(getattr(torch, name)), [source.normal(*shape)], source)


@given(sources, any_shape, st.sampled_from(["sum", "mean"]), st.booleans(), st.data())
def test_reductions(
    source: Source, shape: tuple[int, ...], name: str, keepdim: bool, data: st.DataObject
) -> None:
    rank = max(len(shape), 1)
    one = st.integers(-rank, rank - 1)
    dim = data.draw(st.none() | one | st.lists(one, max_size=3) | st.lists(one, max_size=3).map(tuple))

    def theirs(x: Any) -> Any:
        return getattr(torch, name)(x, dim=dim, keepdim=keepdim)

    def ours(x: Any) -> Any:
        return getattr(F, name)(x, dim=dim, keepdim=keepdim)

    check(ours, theirs, [source.normal(*shape)], source, magnitudes=theirs, refuse=True)


@given(sources, shapes.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5), st.data())
def test_cat(source: Source, shape: tuple[int, ...], data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    operands = []
    for _ in range(data.draw(st.integers(1, 5))):
        sides = list(shape)
        sides[dim] = data.draw(st.integers(0, 5))
        operands.append(source.normal(*sides))
    if data.draw(st.booleans()):
        operands.insert(data.draw(st.integers(0, len(operands))), source.normal(0))

    def theirs(*ts: Any) -> Any:
        return torch.cat(ts, dim=dim)

    check(lambda *xs: F.cat(xs, dim=dim), theirs, operands, source, magnitudes=theirs)


@given(sources, any_shape, st.integers(-6, 5), st.integers(-6, 5))
def test_flatten(source: Source, shape: tuple[int, ...], start: int, end: int) -> None:
    def theirs(x: Any) -> Any:
        return torch.flatten(x, start, end)

    def ours(x: Any) -> Any:
        return F.flatten(x, start, end)

    check(ours, theirs, [source.normal(*shape)], source, magnitudes=theirs, refuse=True)


@given(sources, any_shape, st.lists(st.integers(-1, 6), max_size=5))
def test_reshape_refuses_what_pytorch_refuses(
    source: Source, shape: tuple[int, ...], wanted: list[int]
) -> None:
    def theirs(x: Any) -> Any:
        return torch.reshape(x, wanted)

    check(
        lambda x: F.reshape(x, wanted),
        theirs,
        [source.normal(*shape)],
        source,
        magnitudes=theirs,
        refuse=True,
    )


@given(sources, st.lists(st.sampled_from([1, 2, 3, 4, 5]), max_size=5), st.randoms(use_true_random=False))
def test_reshape(source: Source, shape: list[int], random: Any) -> None:
    wanted = [*shape, *[1] * random.randint(0, 2)]
    random.shuffle(wanted)
    if len(wanted) > 1 and random.random() < 0.5:
        wanted[0:2] = [wanted[0] * wanted[1]]
    if wanted and random.random() < 0.5:
        wanted[random.randrange(len(wanted))] = -1

    def theirs(x: Any) -> Any:
        return torch.reshape(x, wanted)

    check(lambda x: F.reshape(x, wanted), theirs, [source.normal(*shape)], source, magnitudes=theirs)


@st.composite
def classifications(draw: st.DrawFn) -> tuple[Source, np.ndarray, np.ndarray, dict[str, Any]]:
    source = draw(sources)
    c = draw(st.sampled_from([1, 2, 3, 10, 17, 100]))
    batch = draw(st.sampled_from([(), (1,), (3,), (7,), (2, 3), (2, 1, 4), (2, 3, 1, 2), (0,)]))
    shape = (*batch[:1], c, *batch[1:])
    logits = source.normal(*shape, deviation=draw(st.sampled_from([1, 8])))
    kwargs: dict[str, Any] = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    if draw(st.booleans()):
        kwargs["weight"] = source.uniform(0.2, 2, c)
    if draw(st.booleans()):
        kwargs["label_smoothing"] = draw(st.sampled_from([0.1, 0.5, 1.0]))
    if draw(st.integers(0, 2)) == 0:
        return source, logits, source.uniform(0, 1, *shape), kwargs
    target = source.rng.integers(0, c, batch)
    kwargs["ignore_index"] = draw(st.sampled_from([-100, 0, -1]))
    if kwargs["ignore_index"] < 0:
        target = np.where(source.rng.random(batch) < 0.3, kwargs["ignore_index"], target)
    return source, logits, np.asarray(target, np.int64), kwargs


@given(classifications())
def test_cross_entropy(case: tuple[Source, np.ndarray, np.ndarray, dict[str, Any]]) -> None:
    source, logits, target, kwargs = case
    theirs_kwargs = dict(kwargs)
    if "weight" in kwargs:
        theirs_kwargs["weight"] = torch.tensor(kwargs["weight"].astype(np.float64))
    if target.dtype == np.int64:
        constant = torch.tensor(target)
        check(
            lambda x: F.cross_entropy(x, target, **kwargs),
            lambda x: T.cross_entropy(x, constant, **theirs_kwargs),
            [logits],
            source,
            factor=100.0,
        )
    else:
        check(
            lambda x, t: F.cross_entropy(x, t, **kwargs),
            lambda x, t: T.cross_entropy(x, t, **theirs_kwargs),
            [logits, target],
            source,
            factor=100.0,
        )


@given(sources, any_shape, st.sampled_from(["mean", "sum", "none"]))
def test_mse_loss(source: Source, shape: tuple[int, ...], reduction: str) -> None:
    check(
        lambda a, b: F.mse_loss(a, b, reduction=reduction),
        lambda a, b: T.mse_loss(a, b, reduction=reduction),
        [source.normal(*shape), source.normal(*shape)],
        source,
        factor=100.0,
    )
