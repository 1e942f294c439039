"""Module: registration, walks, state, modes, text, copies."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import numpy as np
import pytest

import cnnmath
from cnnmath import nn


class Block(nn.Module):
    """Two layers, one of them shared, with a scale and a counter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.scale = nn.Parameter([2.0])
        self.register_buffer("shift", np.ones(4, np.float32))
        self.register_buffer("scratch", np.zeros(2, np.float32), persistent=False)
        self.factor = 3

    def forward(self, x: Any) -> Any:
        return self.again(self.first(x)) * self.scale + self.shift


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(8, 3)
    )


def test_registration() -> None:
    block = Block()
    assert [name for name, _ in block.named_parameters()] == ["scale", "first.weight", "first.bias"]
    assert [name for name, _ in block.named_parameters(remove_duplicate=False)][-2:] == [
        "again.weight",
        "again.bias",
    ]
    assert [name for name, _ in block.named_buffers()] == ["shift", "scratch"]
    assert [name for name, _ in block.named_modules()] == ["", "first"]
    assert list(block.children()) == [block.first]
    assert [name for name, _ in block.named_parameters(recurse=False)] == ["scale"]
    assert isinstance(block.shift, nn.Buffer) and isinstance(block.scale, nn.Parameter)
    assert block.get_parameter("first.bias") is block.first.bias
    assert block.get_submodule("") is block
    assert "first" in dir(block) and "scale" in dir(block)
    with pytest.raises(AttributeError, match="no sub-module 'second'"):
        block.get_submodule("second")
    with pytest.raises(AttributeError, match="has no attribute 'second'"):
        block.second  # noqa: B018


def test_attributes_change_kind() -> None:
    block = Block()
    del block.scale
    assert not hasattr(block, "scale")
    block.factor = nn.Identity()  # a plain attribute becomes a module
    assert "factor" in dict(block.named_modules())
    block.factor = nn.Parameter([1.0])  # and a parameter
    assert "factor" not in dict(block.named_modules()) and "factor" in dict(block.named_parameters())
    block.shift = np.zeros(4, np.float32)
    assert isinstance(block.shift, nn.Buffer) and not block.shift.data.any()
    block.first = None
    assert block.first is None and "first.weight" not in block.state_dict()


def test_wrong_assignments() -> None:
    block = Block()
    with pytest.raises(TypeError, match=r"Block.scale is a Parameter.*use \.scale\.assign"):
        block.scale = np.ones(1, np.float32)
    with pytest.raises(TypeError, match=r"Block.first is a Module"):
        block.first = 3
    with pytest.raises(TypeError, match="register_parameter: expected a Parameter"):
        block.register_parameter("p", np.ones(1))
    with pytest.raises(TypeError, match="add_module: expected a Module"):
        block.add_module("m", 3)
    with pytest.raises(ValueError, match="a name without a dot"):
        block.add_module("a.b", nn.Identity())
    with pytest.raises(TypeError, match="Parameter: expected float32 or float64, got int64"):
        nn.Parameter(np.arange(3))

    class Hasty(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter([1.0])

    with pytest.raises(AttributeError, match=r"Hasty.weight is assigned before super\(\).__init__\(\)"):
        Hasty()
    with pytest.raises(NotImplementedError, match="Module needs a method forward"):
        nn.Module()(np.ones(1, np.float32))


def test_parameter() -> None:
    p = nn.Parameter([1.0, 2.0])
    assert p.dtype == np.float32 and p.trainable and p.requires_grad
    p.requires_grad = False
    assert not p.trainable
    assert nn.Parameter(np.ones(2)).dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        p.data[0] = 3
    version = p.version
    p[0] = 3
    assert p.data.tolist() == [3, 2] and p.version > version
    assert nn.Conv2d(2, 3, 5).weight.physical.shape == (5, 5, 2, 3)  # [kh][kw][in][out]


def test_state_dict_holds_copies() -> None:
    model = small()
    state = model.state_dict()
    assert list(state) == [
        *("0.weight", "0.bias"),
        *("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"),
        *("5.weight", "5.bias"),
    ]
    assert state["0.weight"].shape == (2, 1, 3, 3)
    assert state["1.num_batches_tracked"].dtype == np.int64
    assert all(array.flags.c_contiguous for array in state.values())
    state["0.weight"][...] = 7
    assert not (model[0].weight.data == 7).any()
    assert list(Block().state_dict()) == [
        *("scale", "shift", "first.weight", "first.bias", "again.weight", "again.bias")
    ]
    assert list(nn.Linear(1, 1).state_dict(prefix="head.")) == ["head.weight", "head.bias"]


def test_load_state_dict() -> None:
    model, other = small(), small()
    assert model.load_state_dict(other.state_dict()) == ([], [])
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    state = other.state_dict()
    del state["1.num_batches_tracked"]  # old files lack it
    model.load_state_dict(state)
    del state["5.bias"]
    state["6.bias"] = np.zeros(3, np.float32)
    found = model.load_state_dict(state, strict=False)
    assert found.missing_keys == ["5.bias"] and found.unexpected_keys == ["6.bias"]


def test_load_state_dict_is_all_or_nothing() -> None:
    model = small()
    before, state = model.state_dict(), small().state_dict()
    del state["5.bias"]
    state["5.extra"] = np.zeros(1)
    state["5.weight"] = state["5.weight"][:, :4]
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    message = str(error.value)
    assert "load_state_dict of Sequential" in message
    assert "missing: 5.bias" in message
    assert "unexpected: 5.extra" in message
    assert "5.weight: expected shape (3, 8), got (3, 4)" in message
    with pytest.raises(ValueError, match=r"5.weight: expected shape"):
        model.load_state_dict(state, strict=False)
    state = {name: array.astype(np.float64) for name, array in small().state_dict().items()}
    with pytest.raises(TypeError, match=r"0.weight: expected float32, got float64; cast it"):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(TypeError, match="expected a mapping"):
        model.load_state_dict([1])  # type: ignore[arg-type]


def test_load_widens_but_does_not_round() -> None:
    layer, state = nn.Linear(2, 2).double(), nn.Linear(2, 2).state_dict()
    layer.load_state_dict(state)
    np.testing.assert_array_equal(layer.weight.data, state["weight"])
    layer.load_state_dict({name: array.astype(np.float16) for name, array in state.items()})
    assert layer.weight.dtype == np.float64


def test_modes() -> None:
    model = small()
    assert model.eval() is model and not any(m.training for m in model.modules())
    assert model.train() is model and all(m.training for m in model.modules())
    with pytest.raises(TypeError, match="train: expected a bool"):
        model.train(1)  # type: ignore[arg-type]
    assert model.freeze() is model and model.frozen
    assert not any(p.trainable for p in model.parameters())
    model[5].unfreeze()
    assert [p.trainable for p in model.parameters()] == [False] * 4 + [True] * 2
    model.unfreeze()
    assert all(p.trainable for p in model.parameters()) and not model.frozen


def test_dtypes() -> None:
    model = small()
    assert model.double() is model
    assert {v.dtype.name for v in (*model.parameters(), *model.buffers())} == {"float64", "int64"}
    assert model.float() is model
    assert {v.dtype.name for v in (*model.parameters(), *model.buffers())} == {"float32", "int64"}
    assert nn.Linear(2, 2, dtype=np.float64).weight.dtype == np.float64


def test_apply_goes_from_the_leaves_up() -> None:
    seen: list[str] = []
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU()))
    model.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent(duplicate: Any) -> None:
    model = Block().eval()
    model.first.freeze()
    other = duplicate(model)
    assert not other.training and not other.first.weight.trainable
    assert other.first is other.again and other.first.weight is other.again.weight  # still tied
    assert other.first is not model.first
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)
    other.scale[...] = 9
    assert model.scale.data.tolist() == [2]
    assert nn.Conv2d(1, 2, 3).weight.order == duplicate(nn.Conv2d(1, 2, 3)).weight.order


def test_shallow_copy_shares_parameters_only() -> None:
    model = Block()
    other = copy.copy(model)
    assert other.scale is model.scale
    other.scale = nn.Parameter([5.0])
    assert model.scale.data.tolist() == [2]


def test_sequential() -> None:
    from collections import OrderedDict

    model = nn.Sequential(OrderedDict(one=nn.ReLU(), two=nn.Tanh()))
    assert [name for name, _ in model.named_children()] == ["one", "two"]
    assert model[0] is model.one and model[-1] is model.two and len(model) == 2
    assert isinstance(model[:1], nn.Sequential) and list(model[:1]) == [model.one]
    model = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid())
    model.insert(1, nn.Identity())
    assert repr(model[1]) == "Identity()"
    del model[1]
    model[0] = nn.LeakyReLU()
    last = model.pop()
    model.append(last).extend([nn.ReLU()])
    assert [type(m).__name__ for m in model] == ["LeakyReLU", "Tanh", "Sigmoid", "ReLU"]
    with pytest.raises(IndexError, match="index 4 is out of range for 4 modules"):
        model[4]
    with pytest.raises(TypeError, match="Sequential: expected Modules, got int"):
        nn.Sequential(3)


def test_module_list() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    layers += [nn.Linear(2, 2)]
    assert list(layers.state_dict())[-1] == "2.bias"
    assert isinstance(layers[1:], nn.ModuleList) and len(layers[1:]) == 2
    with pytest.raises(TypeError, match="add_module: expected a Module"):
        layers.append(3)  # type: ignore[arg-type]


def test_seed_decides_first_values() -> None:
    cnnmath.manual_seed(3)
    first = small().state_dict()
    cnnmath.manual_seed(3)
    second = small().state_dict()
    cnnmath.manual_seed(4)
    third = small().state_dict()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first["0.weight"], third["0.weight"])


def test_first_values_have_pytorchs_distribution() -> None:
    layers = (
        (nn.Linear(300, 200), 300),
        (nn.Conv2d(8, 32, 5, groups=2), 100),
        (
            nn.ConvTranspose2d(32, 8, 5, groups=2),
            100,
        ),  # as PyTorch counts there, too: (in, out / groups, ...)
    )
    for layer, fan_in in layers:
        bound = 1 / np.sqrt(fan_in)
        for values in (layer.weight.data, layer.bias.data):
            assert np.abs(values).max() <= bound
        assert np.abs(layer.weight.data).max() > 0.98 * bound
        np.testing.assert_allclose(layer.weight.data.std(), bound / np.sqrt(3), rtol=0.05)


def test_layer_errors() -> None:
    with pytest.raises(ValueError, match=r"must be multiples of groups \(2\)"):
        nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match='padding "same" needs a stride of 1'):
        nn.Conv2d(3, 4, 3, padding="same", stride=2)
    with pytest.raises(ValueError, match='padding expects numbers, "same" or "valid"'):
        nn.Conv2d(3, 4, 3, padding="full")
    with pytest.raises(ValueError, match="padding_mode expects one of"):
        nn.Conv2d(3, 4, 3, padding_mode="mirror")
    with pytest.raises(ValueError, match="kernel_size expects at least 1, got 0"):
        nn.Conv2d(3, 4, 0)
    with pytest.raises(TypeError, match="in_features expects an int, got float"):
        nn.Linear(3.0, 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Dropout: p expects a probability"):
        nn.Dropout(1.5)
    with pytest.raises(ValueError, match="ZeroPad2d: padding expects an int or"):
        nn.ZeroPad2d((1, 2))


REPRS = [
    lambda nn: nn.Conv2d(1, 6, 5, padding=2),
    lambda nn: nn.Conv2d(
        2, 6, (5, 3), padding="same", groups=2, bias=False, dilation=2, padding_mode="reflect"
    ),
    lambda nn: nn.ConvTranspose2d(6, 1, 2, stride=2),
    lambda nn: nn.ConvTranspose2d(
        2, 6, (5, 3), 2, padding=(1, 0), output_padding=1, groups=2, bias=False, dilation=2
    ),
    lambda nn: nn.Linear(3, 4, bias=False),
    lambda nn: nn.MaxPool2d(3, 2, 1),
    lambda nn: nn.AvgPool2d(2),
    lambda nn: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d((2, None))),
    lambda nn: nn.BatchNorm2d(6),
    lambda nn: nn.BatchNorm1d(3, affine=False, momentum=None),
    lambda nn: nn.Sequential(nn.ReLU(), nn.ReLU(True), nn.LeakyReLU(0.1, True), nn.Sigmoid(), nn.Tanh()),
    lambda nn: nn.Sequential(nn.Softmax(1), nn.LogSoftmax(-1), nn.Dropout(0.3), nn.Flatten(), nn.Identity(3)),
    lambda nn: nn.Sequential(nn.ZeroPad2d(2), nn.ReflectionPad2d((1, 2, 3, 4)), nn.ConstantPad2d(1, 3.5)),
    lambda nn: nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Sequential(nn.Tanh(), nn.Sequential())]),
]


@pytest.mark.parametrize("build", REPRS)
def test_repr_is_pytorchs(build: Any) -> None:
    torch = pytest.importorskip("torch")
    assert repr(build(nn)) == repr(build(torch.nn))


def test_repr_of_ones_own_module() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Sequential(nn.ReLU())

        def extra_repr(self) -> str:
            return "extra"

    assert repr(Net()) == "Net(\n  extra\n  (f): Sequential(\n    (0): ReLU()\n  )\n)"


def test_summary() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU(), nn.Sigmoid()))
    model[1].eval()
    text = model.summary((3, 4, 4))
    assert text.splitlines()[0].split() == ["Layer", "Output", "shape", "Parameters", "FLOPs"]
    assert "1.0 (ReLU)" in text and "(1, 48)" in text and "Parameters: 0" in text
    assert model.training and not model[1].training  # as before
    assert model.summary((3, 4, 4)) == model.summary((1, 3, 4, 4))

    with pytest.raises(TypeError, match=r"input_shape expects a tuple .* got 3"):
        model.summary(3)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes from Python 3.11 on")
def test_errors_tell_the_layer() -> None:
    body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(9, 2))
    model = nn.Sequential(nn.Flatten(), body)
    with pytest.raises(ValueError, match="linear: weight expects 9 input features, input has 8") as caught:
        model(np.zeros((3, 4), np.float32))
    assert caught.value.__notes__ == ["in layer 1.2 of Sequential: Linear"]
    with pytest.raises(TypeError, match=r"Sequential: expected .* got dtype float16; cast it"):
        model(np.zeros((3, 4), np.float16))
