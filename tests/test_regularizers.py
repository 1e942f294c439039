"""Penalties: values, gradients, which parameters they are over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnmath import nn, value_and_grad
from cnnmath.regularizers import L1, L2


def model() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(5, 4), nn.Sequential(nn.Linear(4, 2))
    )
    return net.double()


PENALTIES = [(L1, np.abs, np.sign), (L2, np.square, lambda w: 2 * w)]


@pytest.mark.parametrize(("kind", "f", "slope"), PENALTIES)
def test_value_and_gradient(kind: Any, f: Any, slope: Any) -> None:
    net, penalty = model(), kind(0.3)
    weights = {name: p.data for name, p in net.named_parameters() if name.endswith("weight") and p.ndim > 1}
    assert list(weights) == ["0.weight", "2.weight", "3.0.weight"]
    net[0].weight[0, 0, 0, 0] = 0.0
    expected = 0.3 * sum(f(w).sum() for w in weights.values())
    np.testing.assert_allclose(penalty(net), expected, rtol=1e-12)
    value, grads = value_and_grad(lambda: penalty(net), net)()
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for name, grad in grads.items():
        expected_grad = 0.3 * slope(weights[name]) if name in weights else np.zeros(grad.shape)
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", [L1, L2])
def test_float32(kind: Any) -> None:
    layer = nn.Linear(3, 2)
    result = kind(0.5)(layer)
    assert result.dtype == np.float32 and result.shape == ()


def test_strength_is_read_at_each_run() -> None:
    layer, penalty = nn.Linear(3, 2), L2(1.0)
    step = value_and_grad(lambda: penalty(layer), layer)
    first, plans = penalty(layer), len(layer._plans)
    assert step()[0] == first
    penalty.strength = 2.0
    assert penalty(layer) == 2 * first and step()[0] == 2 * first
    np.testing.assert_allclose(step()[1]["weight"], 4 * layer.weight.data, rtol=1e-6)
    assert len(layer._plans) == plans
    penalty.strength = -1.0
    with pytest.raises(ValueError, match="L2: strength expects a number not below 0, got -1"):
        penalty(layer)


def test_choice_of_parameters() -> None:
    net = model()
    bias, head = net[2].bias, net[3][0].weight
    bias[...] = 1.0

    def squares(*ps: nn.Parameter) -> float:
        return float(sum((p.data**2).sum() for p in ps))

    penalty = L2(1.0, params=["2.bias", head])
    np.testing.assert_allclose(penalty(net), squares(bias, head), rtol=1e-12)
    penalty.params = [bias]
    np.testing.assert_allclose(penalty(net), squares(bias), rtol=1e-12)
    by_name = L2(1.0, params=lambda name, p: name.startswith("2."))
    np.testing.assert_allclose(by_name(net), squares(net[2].weight, bias), rtol=1e-12)
    np.testing.assert_allclose(
        L2(1.0, params=net[2].parameters())(net), squares(net[2].weight, bias), rtol=1e-12
    )
    with pytest.raises(ValueError, match=r"the model has no parameters 9\.weight; it has 0\.weight"):
        L2(1.0, params=["9.weight"])(net)
    with pytest.raises(TypeError, match="params expects names and Parameters, got int"):
        L2(1.0, params=[3])  # type: ignore[list-item]


def test_frozen_and_tied_parameters() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    penalty = L2(1.0)
    net[1].weight = net[0].weight
    np.testing.assert_allclose(penalty(net), (net[0].weight.data ** 2).sum(), rtol=1e-6)
    net[0].weight.trainable = False
    assert penalty(net) == 0
    net[0].weight.trainable = True
    assert penalty(net) > 0
    assert L2(1.0)(nn.ReLU()) == 0


def test_empty_penalty_of_a_model_of_float64() -> None:
    assert L1(1.0, params=[])(model()).dtype == np.float64
