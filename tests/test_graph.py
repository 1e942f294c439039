"""Graphs: symbols, orders, tracing, and what a traced value refuses to be."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest

import cnnmath
import cnnmath.functional as F
from cnnmath.graph import autodiff, ir
from cnnmath.graph.variable import HWIO, NHWC, Variable, default_order, logical, physical, same_order
from cnnmath.planner import eager

F32 = np.dtype(np.float32)


def symbol(shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> ir.Tensor:
    return ir.Graph().input(ir.Spec(shape, F32, order))


def test_symbol_has_shape_dtype_and_size() -> None:
    t = symbol((2, 3, 4))
    assert (t.ndim, t.size, t.nbytes, len(t)) == (3, 24, 96, 2)
    assert repr(t) == "x: float32[2, 3, 4]"
    assert symbol(()).size == 1
    assert symbol((0, 5)).size == 0
    with pytest.raises(TypeError, match="0-d"):
        len(symbol(()))


def test_size_does_not_wrap_around() -> None:
    assert symbol((2**40, 2**40)).size == 2**80


@pytest.mark.parametrize("order", [(0, 1, 2, 3), NHWC, HWIO])
def test_strides_are_those_of_the_physical_array(order: tuple[int, ...]) -> None:
    shape = (2, 3, 5, 7)
    t = symbol(shape, order)
    array = logical(np.empty([shape[d] for d in order], F32), order)
    assert array.shape == shape
    assert t.strides == tuple(s // 4 for s in array.strides)


@pytest.mark.parametrize("rank", range(6))
def test_physical_and_logical_are_inverse(rank: int, rng: np.random.Generator) -> None:
    a = rng.standard_normal(tuple(range(2, 2 + rank)))
    for order in itertools.permutations(range(rank)):
        p = physical(a, order)
        assert p.flags.c_contiguous
        assert np.array_equal(logical(p, order), a)
        assert np.shares_memory(physical(logical(p, order), order), p)  # what lies right is not copied


def test_orders_agree_up_to_dims_of_size_one() -> None:
    assert default_order(4) == NHWC
    assert [default_order(r) for r in (0, 1, 2, 3, 5)] == [tuple(range(r)) for r in (0, 1, 2, 3, 5)]
    assert same_order((4, 1, 5, 6), (0, 1, 2, 3), NHWC)
    assert same_order((4, 3, 1, 1), (0, 1, 2, 3), NHWC)
    assert not same_order((4, 3, 5, 6), (0, 1, 2, 3), NHWC)
    assert symbol((1, 3, 1, 1), (0, 1, 2, 3)).has_order(NHWC)


def test_traced_values_refuse_to_be_known() -> None:
    def branch(x):  # type: ignore[no-untyped-def]
        return F.relu(x) if x else x

    x = np.ones(3)
    with pytest.raises(TypeError, match="branch on shapes or on Python values"):
        cnnmath.vjp(branch, x)
    with pytest.raises(TypeError, match="has no number yet"):
        cnnmath.vjp(lambda x: float(x), x)
    with pytest.raises(TypeError, match="has no number yet"):
        cnnmath.vjp(lambda x: range(x), x)
    with pytest.raises(TypeError, match=r"cannot go to NumPy .* cnnmath\.Function"):
        cnnmath.vjp(lambda x: np.exp(np.asarray(x)), x)


def test_control_flow_on_shapes() -> None:
    def fn(x):  # type: ignore[no-untyped-def]
        for _ in range(x.shape[0]):
            x = x + x
        return x

    assert cnnmath.vjp(fn, np.ones(3))[0].tolist() == [8.0] * 3


def test_operators_of_symbols_and_arrays() -> None:
    a = np.array([1.0, 2.0])

    def fn(x):  # type: ignore[no-untyped-def]
        return (a - x, x - a, 2 * x, x * a, -x, 1 + x, x.sum(), x.mean(), x.reshape(2, 1), x.reshape((1, 2)))

    got = cnnmath.vjp(fn, np.array([3.0, 5.0]))[0]
    want = ([-2, -3], [2, 3], [6, 10], [3, 10], [-3, -5], [4, 6], 8, 4, [[3], [5]], [[3, 5]])
    for g, w in zip(got, want, strict=True):
        assert g.tolist() == w


def test_printed_graph() -> None:
    graph, _ = eager.trace(lambda x: F.relu(F.relu(x)), (np.ones((2, 3), np.float32),), {})
    assert repr(graph).splitlines() == [
        "graph(x: float32[2, 3])",
        "  relu: float32[2, 3] = relu(x)",
        "  relu1: float32[2, 3] = relu(relu)",
        "  return relu1",
    ]


def test_no_graph_no_symbols() -> None:
    assert ir.current_graph() is None
    with pytest.raises(RuntimeError, match="no graph is being traced"):
        ir.as_tensor(np.ones(3))
    with pytest.raises(RuntimeError, match="no random key outside a run"):
        ir.random_key()
    with pytest.raises(ZeroDivisionError):
        eager.trace(lambda x: 1 // 0, (np.ones(3),), {})
    assert ir.current_graph() is None  # an error ends the tracing


def test_flops_are_counted() -> None:
    graph, _ = eager.trace(lambda x: F.relu(x), (np.ones((2, 3)),), {})
    assert graph.flops == 6


def test_gradients_of_one_tensor_add_up_in_graph_order() -> None:
    graph = ir.Graph()
    with ir.tracing(graph):
        x = graph.input(ir.Spec((2,), F32))
        y = x * x + F.relu(x)
        (g,) = autodiff.differentiate(graph, [y], [graph.constant([1, 1], F32)], [x])
    assert g is not None and g.shape == (2,)


def test_unused_input_has_no_gradient() -> None:
    graph = ir.Graph()
    with ir.tracing(graph):
        x, z = graph.input(ir.Spec((2,), F32)), graph.input(ir.Spec((2,), F32))
        y = F.relu(x)
        assert autodiff.differentiate(graph, [y], [graph.constant([1, 1], F32)], [z]) == [None]


def test_cells() -> None:
    held = {"lr": 0.5}
    assert ir.Cell.of(2).read() == 2.0 and ir.Cell.of(2).constant
    assert ir.item(held, "lr").read() == 0.5
    cell = ir.Cell.of(lambda: held["lr"])
    assert not cell.constant and ir.Cell.of(cell) is cell
    held["lr"] = 0.25
    assert cell.read() == 0.25


@pytest.mark.parametrize("order", [None, HWIO])
def test_variable(order: tuple[int, ...] | None, rng: np.random.Generator) -> None:
    a = rng.standard_normal((2, 3, 4, 5))
    v = Variable(a, order, name="weight")
    assert (v.shape, v.dtype, v.ndim, v.size, v.nbytes, len(v)) == (a.shape, a.dtype, 4, 120, 960, 2)
    assert np.array_equal(v.data, a) and np.array_equal(np.asarray(v), a) and np.array_equal(v[1, 2], a[1, 2])
    assert v.numpy().flags.c_contiguous and not np.shares_memory(v.numpy(), v.data)
    assert v.physical.ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        v.data[0] = 1
    before = v.version
    v.assign(a + 1)
    v[0, 0] = 7
    assert v.version == before + 2
    assert (v[0, 0] == 7).all() and np.array_equal(v[1], a[1] + 1)
    for twin in (copy.deepcopy(v), pickle.loads(pickle.dumps(v))):
        assert np.array_equal(twin.data, v.data) and twin.order == v.order and twin.name == "weight"
        assert not np.shares_memory(twin.data, v.data)
    v.cast(np.float32)
    assert v.dtype == np.float32 and v.version > before + 2


def test_variable_refuses() -> None:
    v = Variable(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"assign: expected shape \(2, 3\), got \(3, 2\)"):
        v.assign(np.zeros((3, 2), np.float32))
    with pytest.raises(
        TypeError, match=r"assign: expected dtype float32, got float64; cast it with \.astype"
    ):
        v.assign(np.zeros((2, 3)))
    v.assign([[1, 2, 3], [4, 5, 6]])
    assert v.data.tolist() == [[1, 2, 3], [4, 5, 6]]
