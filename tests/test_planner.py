"""From graph to program: lowering, plans, their cache, and that sharing memory never changes a result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnmath
import cnnmath.functional as F
from cnnmath.graph import ir
from cnnmath.graph.variable import Variable
from cnnmath.planner import eager
from cnnmath.planner.lowering import Lowering, float_bits, live_nodes, lower
from cnnmath.planner.plan import Plan

SHAPES = [(6,), (2, 3), (1, 2, 3, 1), (3, 2)]


@st.composite
def expressions(draw: st.DrawFn) -> tuple[list[tuple[str, int, int]], list[int]]:
    """A random list of ops on earlier values, by index, and the values to give back."""
    ops = []
    for i in range(draw(st.integers(1, 25))):
        name = draw(st.sampled_from(["relu", "neg", "add", "sub", "mul", "reshape", "tanh", "sum"]))
        ops.append((name, draw(st.integers(0, i + 1)), draw(st.integers(0, i + 1))))
    count = len(ops) + 2
    return ops, draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=4))


def evaluate(ops: list[tuple[str, int, int]], values: list[Any], f: Any) -> list[Any]:
    """All values of an expression; `f` holds the ops, NumPy's or ours."""
    for name, i, j in ops:
        a, b = values[i], values[j]
        if name in ("add", "sub", "mul"):
            values.append(f[name](a, f["reshape"](b, a.shape)))
        elif name == "reshape":
            values.append(f[name](a, SHAPES[(i + j) % len(SHAPES)]))
        elif name == "sum":
            # of all elements, brought back to a full array by broadcasting
            values.append(f["add"](f["mul"](a, 0.0), f["sum"](a)))
        else:
            values.append(f[name](a))
    return values


IN_NUMPY = {
    "relu": lambda a: np.maximum(a, 0),
    "neg": np.negative,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "reshape": np.reshape,
    "tanh": np.tanh,
    "sum": np.sum,
}
OURS = {name: getattr(F, name) for name in IN_NUMPY}


@given(expressions(), st.integers(0, 2**32))
def test_sharing_memory_never_changes_a_result(
    expression: tuple[list[tuple[str, int, int]], list[int]], seed: int
) -> None:
    """Buffers are taken over, aliased, used again: whatever the graph, values are NumPy's, inputs stay as they were."""
    ops, wanted = expression
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(-1, 1, (2, 3)), Variable(rng.uniform(-1, 1, (2, 3)))
    x_before, w_before = x.copy(), w.numpy()
    graph, form = eager.trace(
        lambda x: tuple(evaluate(ops, [x, ir.as_tensor(w)], OURS)[i] for i in wanted), (x,), {}
    )
    plan = Plan(graph)
    for _ in range(2):
        got = form(plan(x))
        values = evaluate(ops, [x_before, w_before], IN_NUMPY)
        for g, i in zip(got, wanted, strict=True):
            np.testing.assert_allclose(g, values[i], rtol=1e-12, atol=1e-12 * max(1, np.abs(values[i]).max()))
        assert np.array_equal(x, x_before) and np.array_equal(w.data, w_before)
        for k, g in enumerate(got):  # fresh arrays, each the caller's own
            assert g.flags.writeable
            assert not np.shares_memory(g, x) and not np.shares_memory(g, w.data)
            assert not any(np.shares_memory(g, other) for other in got[:k])
            g[...] = np.nan


def test_cells_are_read_at_each_run() -> None:
    held = {"slope": 0.5}

    class Leaky(ir.Op):
        name = "leaky"

        def infer(self, x: ir.Tensor) -> ir.Spec:
            return ir.Spec(x.shape, x.dtype, x.order)

        def lower(self, low: Lowering, node: ir.Node) -> None:
            (x,) = node.inputs
            low.call("leaky_relu", [x, node.cells["slope"], node.output], n=node.output.size)

    graph, form = eager.trace(
        lambda x: ir.apply(Leaky(), x, cells={"slope": ir.item(held, "slope")}), (np.zeros(2),), {}
    )
    plan = Plan(graph)
    x = np.array([-4.0, 4.0])
    assert form(plan(x)).tolist() == [-2.0, 4.0]
    held["slope"] = 0.25
    assert form(plan(x)).tolist() == [-1.0, 4.0]


def trace_relu(n: int = 6) -> ir.Graph:
    return eager.trace(F.relu, (np.zeros(n),), {})[0]


def test_lowering_names_its_mistakes() -> None:
    low = Lowering(trace_relu())
    (x,) = low.graph.inputs
    with pytest.raises(TypeError, match=r"kernel relu: unknown fields \['m'\], it has \['n'\]"):
        low.call("relu", [x, x], n=6, m=2)
    with pytest.raises(KeyError, match="'n'"):
        low.call("relu", [x, x])
    with pytest.raises(ValueError, match="no kernel 'rely'"):
        low.call("rely", [x, x], n=6)


def test_an_input_that_nothing_computes_is_named() -> None:
    """As when a node reads what another graph computes."""
    graph, other = trace_relu(), trace_relu()
    graph.nodes[0].inputs = (other.nodes[0].output,)
    with pytest.raises(
        RuntimeError, match=r"relu: it reads relu: float64\[6\], which nothing before it computes"
    ):
        lower(graph)


def test_an_op_without_storage_is_named() -> None:
    class Lazy(ir.Op):
        name = "lazy"

        def infer(self, x: ir.Tensor) -> ir.Spec:
            return ir.Spec(x.shape, x.dtype)

        def lower(self, low: Lowering, node: ir.Node) -> None:
            pass

    graph, _ = eager.trace(lambda x: F.relu(ir.apply(Lazy(), x)), (np.zeros(3),), {})
    with pytest.raises(RuntimeError, match="lazy: its lowering left lazy: float64"):
        Plan(graph)


def test_float_parameters_travel_as_bits() -> None:
    assert float_bits(1.0) == 0x3FF0000000000000
    assert np.array([float_bits(-0.1)]).view(np.float64)[0] == -0.1


def test_nodes_that_nothing_needs_are_dropped() -> None:
    graph, _ = eager.trace(lambda x: (F.tanh(x), F.relu(x))[1], (np.zeros(3),), {})
    assert [node.op.name for node in live_nodes(graph)] == ["relu"]


def test_plan_prints_its_graph_and_memory() -> None:
    plan = Plan(trace_relu())
    assert repr(plan).startswith("Plan(1 nodes, ")
    assert "relu: float64[6] = relu(x)" in repr(plan)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (2, 0, 4, 4), ()])
def test_empty_and_0d_arrays(shape: tuple[int, ...]) -> None:
    y = F.relu(np.ones(shape))
    assert y.shape == shape and y.dtype == np.float64


def test_layouts() -> None:
    """A row-major rank-4 array and its channels-last twin give the same; the result is dense channels-last."""
    a = np.arange(120.0).reshape(2, 3, 4, 5) - 60
    last = np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for x in (a, last, np.asfortranarray(a), a[:, :, ::-1], np.broadcast_to(a[:1], a.shape)):
        y = F.relu(x)
        assert np.array_equal(y, np.maximum(x, 0))
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_plans_are_found_again() -> None:
    cache = eager.PlanCache()
    x = np.zeros((2, 3), np.float32)
    traces: list[int] = []

    def fn(x: Any, k: float = 1.0) -> Any:
        traces.append(1)
        return F.relu(x) * k

    def call(*args: Any, **kwargs: Any) -> Any:
        return eager.call(fn, args, kwargs, "fn", cache)

    for again in (1, 2):
        call(x)
        call(x + again)
    assert len(traces) == len(cache) == 1
    for other in (np.zeros((3, 2), np.float32), np.zeros((2, 3)), np.zeros((2, 3, 1, 1), np.float32)):
        call(other)
    call(x, k=2.0)
    call(x, k=2)  # equal, but another type
    call(x, k=0.0)
    call(x, k=-0.0)
    assert len(traces) == len(cache) == 8
    cache.clear()
    assert len(cache) == 0


def test_the_cache_is_bounded_by_number_and_by_bytes() -> None:
    few = eager.PlanCache(most=3)
    for n in range(10):
        eager.call(F.relu, (np.zeros(n),), {}, "relu", few)
    assert len(few) == 3
    small = eager.PlanCache(most_bytes=100_000)
    for n in range(5):
        big = np.full(5000 + n, 2.0)
        eager.call(lambda x, big=big: x * ir.as_tensor(big), (np.zeros(5000 + n),), {}, n, small)
    assert 1 <= len(small) <= 2


def test_the_least_recently_used_plan_goes_first() -> None:
    cache = eager.PlanCache(most=2)
    traces: list[int] = []

    def fn(x: Any) -> Any:
        traces.append(x.shape[0])
        return F.relu(x)

    for n in (1, 2, 1, 3, 1, 2):
        eager.call(fn, (np.zeros(n),), {}, "fn", cache)
    assert traces == [1, 2, 3, 2]


def test_a_plan_holds_while_what_the_trace_read_stays() -> None:
    class Switch:
        on = True

        def plan_key(self) -> bool:
            return self.on

    switch = Switch()

    def fn(x: Any) -> Any:
        graph = ir.current_graph()
        assert graph is not None
        graph.depend(switch)
        return F.relu(x) if switch.on else F.neg(x)

    cache = eager.PlanCache()
    for on in (True, False, True):
        switch.on = on
        assert eager.call(fn, (np.array([2.0]),), {}, "fn", cache).tolist() == [2.0 if on else -2.0]
    assert len(cache) == 2


def test_unhashable_arguments_work_uncached() -> None:
    cache = eager.PlanCache()
    out = eager.call(lambda x, d: F.relu(x), (np.array([-1.0, 1.0]), {"a": 1}), {}, "fn", cache)
    assert out.tolist() == [0.0, 1.0]
    assert len(cache) == 0


def test_results_take_the_form_that_the_function_gives() -> None:
    x = np.array([-1.0, 2.0])
    out = eager.call(lambda x: {"a": F.relu(x), "b": [x, (x, None)]}, (x,), {}, object())
    assert out["a"].tolist() == [0.0, 2.0] and out["b"][1][1] is None
    assert not np.shares_memory(out["b"][0], x) and not np.shares_memory(out["b"][0], out["b"][1][0])


def test_effects_write_in_place_and_count_versions() -> None:
    class Fill(ir.Op):
        name = "fill"
        effect = True

        def infer(self, x: ir.Tensor) -> tuple[ir.Spec, ...]:
            return ()

        def writes(self, node: ir.Node) -> tuple[ir.Tensor, ...]:
            (x,) = node.inputs
            assert x is not None
            return (x,)

        def lower(self, low: Lowering, node: ir.Node) -> None:
            (x,) = node.inputs
            assert x is not None
            low.call("fill", [None, x], n=x.size, value=3.0)

    def fn(x: Any) -> None:
        ir.apply(Fill(), x)

    for x in (np.zeros(5), np.zeros(10)[::2], np.zeros((2, 3, 4, 5))[:, :, :, ::-1]):
        eager.call(fn, (x,), {}, object())
        assert (x == 3).all()
    frozen = np.zeros(5)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="expected a writeable array, got a read-only one"):
        eager.call(fn, (frozen,), {}, object())
    v = Variable(np.zeros(4))
    eager.call(lambda: fn(v), (), {}, object())
    assert (v.data == 3).all() and v.version == 1


def test_checks_run_before_the_plan() -> None:
    def fn(x: Any) -> Any:
        graph = ir.current_graph()
        assert graph is not None

        def positive(a: np.ndarray) -> None:
            if (a < 0).any():
                raise ValueError("fn: expected x >= 0")

        graph.check(x, positive)
        return F.relu(x)

    assert eager.call(fn, (np.ones(2),), {}, fn).tolist() == [1, 1]
    with pytest.raises(ValueError, match="fn: expected x >= 0"):
        eager.call(fn, (-np.ones(2),), {}, fn)


def test_random_numbers_come_from_seed_and_step() -> None:
    x = np.ones((50, 50), np.float32)
    cnnmath.manual_seed(3)
    first, second = F.dropout(x), F.dropout(x)
    assert not np.array_equal(first, second)
    cnnmath.manual_seed(3)
    assert np.array_equal(F.dropout(x), first)
    assert np.array_equal(F.dropout(x), second)
    cnnmath.manual_seed(4)
    assert not np.array_equal(F.dropout(x), first)


def test_a_result_too_large_to_address_is_refused() -> None:
    row = np.broadcast_to(np.float32(1), (1, 2**24))
    with pytest.raises(ValueError, match=r"add: the result would have shape \(16777216, 16777216\)"):
        F.add(row, row.reshape(2**24, 1))
    with pytest.raises(MemoryError):
        F.relu(np.broadcast_to(np.float32(1), (2**20, 2**24)))


def test_threads_do_not_change_plans(threads: Callable[[int], None]) -> None:
    plan = Plan(trace_relu(1_000_000))
    threads(1)
    one = plan.arena_bytes
    threads(4)
    assert plan.arena_bytes == one


def test_a_plan_refuses_a_variable_that_has_been_cast() -> None:
    """Its buffer is another one, of other bytes."""
    w = Variable(np.ones((64, 64)))
    x = np.ones((2, 64))
    plan = Plan(eager.trace(lambda x: F.linear(x, w), (x,), {})[0])
    w.cast(np.float32)
    with pytest.raises(RuntimeError, match=r"has become float32.* since this was traced"):
        plan(x)


def test_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="max_pool2d: no number may be as large as 9223372036854775808"):
        F.max_pool2d(np.ones((1, 1, 4, 4)), 2, stride=1 << 63)


def test_any_callable_may_be_read_at_each_run() -> None:
    """One without a name, too."""
    values = iter([0.5, 0.25])
    slope = functools.partial(next, values)
    x = np.array([-1.0, 2.0])
    assert F.leaky_relu(x, slope).tolist() == [-0.5, 2.0]
    assert F.leaky_relu(x, slope).tolist() == [-0.25, 2.0]
