"""Calls of modules: when a plan is found again, and when it is made anew."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from cnnmath import Function, nn, value_and_grad

X = np.array([[-2.0, 1.0, 3.0]], np.float32)


class Scale(nn.Module):
    """y = factor * w * x, with a branch on the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 2.0
        self.weight = nn.Parameter([1.0, 2.0, 3.0])
        self.traces = [0]

    def forward(self, x: Any) -> Any:
        self.traces[0] += 1
        return x * self.weight * self.factor if self.training else x * self.weight


def test_plans_are_found_again() -> None:
    model = Scale()
    for _ in range(3):
        np.testing.assert_array_equal(model(X), X * [2, 4, 6])
    model(np.concatenate([X, X]))
    model(X.copy())
    assert model.traces == [2]


def test_modes_find_their_plans() -> None:
    model = nn.Sequential(Scale(), nn.ReLU())
    for _ in range(3):
        np.testing.assert_array_equal(model.train()(X), np.maximum(X * [2, 4, 6], 0))
        np.testing.assert_array_equal(model.eval()(X), np.maximum(X * [1, 2, 3], 0))
    assert model[0].traces == [2]
    model.freeze()
    model(X)
    model.unfreeze()
    model(X)
    assert model[0].traces == [3]


def test_values_need_no_new_plan() -> None:
    model = Scale()
    model(X)
    model.weight.assign([0.0, 1.0, 0.0])
    np.testing.assert_array_equal(model(X), X * [0, 2, 0])
    model.load_state_dict({"weight": np.ones(3, np.float32)})
    np.testing.assert_array_equal(model(X), X * 2)
    model.factor = 2.0  # as it was
    model(X)
    assert model.traces == [1]


def test_attributes_make_a_new_plan() -> None:
    model = Scale()
    model(X)
    model.factor = 5.0
    np.testing.assert_array_equal(model(X), X * [5, 10, 15])
    model.weight = nn.Parameter([1.0, 1.0, 1.0])
    np.testing.assert_array_equal(model(X), X * 5)
    model.double()
    assert model(X.astype(np.float64)).dtype == np.float64
    model.float()
    assert model(X).dtype == np.float32


def test_structure_makes_a_new_plan() -> None:
    model = nn.Sequential(nn.ReLU())
    model(X)
    model.append(Scale())
    np.testing.assert_array_equal(model(X), np.maximum(X, 0) * [2, 4, 6])
    del model[0]
    np.testing.assert_array_equal(model(X), X * [2, 4, 6])
    model[0].factor = 1.0
    np.testing.assert_array_equal(model(X), X * [1, 2, 3])


class Reader(nn.Module):
    """Reads parts of sub-modules that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Scale()
        self.layers = nn.ModuleList([nn.ModuleList([nn.ReLU()])])

    def forward(self, x: Any) -> Any:
        x = x * self.part.weight * self.part.factor
        for inner in self.layers:
            for layer in inner:
                x = layer(x)
        return x


def test_parts_that_are_only_read() -> None:
    model = Reader()
    model(X)
    model.part.factor = 3.0
    np.testing.assert_array_equal(model(X), np.maximum(X * [3, 6, 9], 0))
    model.part.weight = nn.Parameter([1.0, 1.0, 1.0])
    np.testing.assert_array_equal(model(X), np.maximum(X * 3, 0))
    model.layers[0].append(Scale())
    np.testing.assert_array_equal(model(X), np.maximum(X * 3, 0) * [2, 4, 6])


def test_run_time_numbers() -> None:
    layer = nn.LeakyReLU(0.5)
    first = layer.plan(X)
    np.testing.assert_array_equal(layer(X), [[-1, 1, 3]])
    layer.negative_slope = 0.25
    np.testing.assert_array_equal(layer(X), [[-0.5, 1, 3]])
    assert layer.plan(X) is first


def test_plan_tells_memory_and_graph() -> None:
    plan = nn.Sequential(nn.ReLU(), nn.Tanh()).plan(X)
    assert isinstance(plan.memory, int) and plan.memory >= 0
    assert [node.op.name for node in plan.graph.nodes] == ["relu", "tanh"]


def test_copies_have_plans_of_their_own() -> None:
    model = Scale()
    model(X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.weight.assign([1.0, 1.0, 1.0])
        np.testing.assert_array_equal(other(X), X * 2)
        np.testing.assert_array_equal(model(X), X * [2, 4, 6])


def test_residual() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = Scale()
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(x + self.f(x))

    model = Residual()
    np.testing.assert_array_equal(model(X), np.maximum(X * [3, 5, 7], 0))

    def loss(x: Any) -> Any:
        return model(x).sum()

    value, grads = value_and_grad(loss, model)(X)
    assert value == 26
    np.testing.assert_array_equal(grads["f.weight"], [0, 2, 6])


def test_tied_weight_gets_the_sum_of_its_gradients() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Scale(), Scale()
            self.two.weight = self.one.weight

        def forward(self, x: Any) -> Any:
            return self.two(self.one(x))

    model = Tied()
    value, grads = value_and_grad(lambda x: model(x).sum(), model)(X)
    w = np.array([1, 2, 3])
    assert value == (4 * w * w * X).sum() and list(grads) == ["one.weight"]
    np.testing.assert_array_equal(grads["one.weight"], (8 * w * X)[0])


def test_frozen_parameters_have_no_gradient() -> None:
    model = nn.Sequential(Scale(), Scale())
    step = value_and_grad(lambda x: model(x).sum(), model)
    assert list(step(X)[1]) == ["0.weight", "1.weight"]
    model[0].freeze()
    assert list(step(X)[1]) == ["1.weight"]
    model.unfreeze()
    assert list(step(X)[1]) == ["0.weight", "1.weight"]


@pytest.mark.parametrize(
    ("dtype", "model_dtype"), [("float64", "float32"), ("uint8", "float32"), ("float32", "float64")]
)
def test_input_of_another_dtype(dtype: str, model_dtype: str) -> None:
    model = nn.Sequential(nn.ReLU(), Scale())
    if model_dtype == "float64":
        model.double()
    expected = rf"expected an input of {model_dtype}.*got {dtype}; cast it: x.astype\(np.{model_dtype}\)"
    expected += " / 255 for pixels of 0 to 1$" if dtype == "uint8" else "$"
    for call in (model, value_and_grad(lambda x: model(x).sum(), model)):
        with pytest.raises(TypeError, match=expected):
            call(np.ones((1, 3), dtype))


def test_branch_on_values() -> None:
    class Branch(nn.Module):
        def forward(self, x: Any) -> Any:
            return x if x.sum() else x + 1.0

    with pytest.raises(TypeError, match="the truth of a traced value is not known"):
        Branch()(X)


def test_traced_value_in_an_attribute() -> None:
    class Keeps(nn.Module):
        def forward(self, x: Any) -> Any:
            self.last = x
            return x

    with pytest.raises(TypeError, match=r"Keeps.last: a traced value has no meaning after the trace"):
        Keeps()(X)


def test_function_of_ones_own_in_a_module() -> None:
    class Cube(Function):
        def shape(self, x: Any) -> Any:
            return x

        def forward(self, x: Any) -> Any:
            return x**3

        def backward(self, grads: Any, x: Any) -> Any:
            return 3 * x**2 * grads[0]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = Scale()
            self.cube = Cube()

        def forward(self, x: Any) -> Any:
            return self.cube(self.scale(x))

    model = Net()
    np.testing.assert_array_equal(model(X), (X * [2, 4, 6]) ** 3)
    _, grads = value_and_grad(lambda x: model(x).sum(), model)(X)
    np.testing.assert_array_equal(grads["scale.weight"], (3 * (X * [2, 4, 6]) ** 2 * X * 2)[0])


def test_several_arguments_and_results() -> None:
    class Two(nn.Module):
        def forward(self, pair: Any, *, bias: Any = None) -> Any:
            a, b = pair
            total = a + b
            return {"sum": total if bias is None else total + bias, "first": a}

    model = Two()
    out = model([X, X])
    np.testing.assert_array_equal(out["sum"], 2 * X)
    np.testing.assert_array_equal(out["first"], X)
    np.testing.assert_array_equal(model([X, X], bias=X)["sum"], 3 * X)
