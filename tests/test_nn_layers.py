"""Layers and small networks against PyTorch: values, gradients, running statistics, weights both ways."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from cnnmath import nn, value_and_grad
from cnnmath.losses import CrossEntropyLoss

torch = pytest.importorskip("torch")

DTYPES = [np.float64, np.float32]


def tolerance(dtype: Any) -> dict[str, float]:
    return {"rtol": 1e-9, "atol": 1e-11} if dtype == np.float64 else {"rtol": 2e-4, "atol": 2e-5}


def both(build: Any, dtype: Any = np.float64) -> tuple[nn.Module, Any]:
    """A model of ours and PyTorch's, with PyTorch's weights."""
    theirs = build(torch.nn).to(getattr(torch, np.dtype(dtype).name))
    ours = build(nn)
    if dtype == np.float64:
        ours.double()
    ours.load_state_dict({name: t.numpy() for name, t in theirs.state_dict().items()})
    return ours, theirs


def compare(ours: nn.Module, theirs: Any, x: np.ndarray, rng: np.random.Generator) -> None:
    """Outputs, gradients of the parameters and the states afterwards."""
    t = torch.tensor(x, requires_grad=True)
    y = theirs(t)
    cotangent = rng.standard_normal(y.shape).astype(x.dtype)
    theirs.zero_grad()
    y.backward(torch.tensor(cotangent))

    def loss(x: Any, v: Any) -> Any:
        out = ours(x)
        return (out * v).sum(), out

    (_, out), grads = value_and_grad(loss, ours)(x, cotangent)
    close = tolerance(x.dtype)
    np.testing.assert_allclose(out, y.detach().numpy(), **close)
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}
    assert list(grads) == [name for name, p in theirs.named_parameters() if p.requires_grad]
    for name, grad in expected.items():
        scale = max(np.abs(grad).max(), 1.0)
        np.testing.assert_allclose(
            grads[name], grad, rtol=close["rtol"], atol=close["atol"] * scale * 10, err_msg=name
        )
    same_state(ours, theirs, close)


def same_state(ours: nn.Module, theirs: Any, close: dict[str, float]) -> None:
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    for name, t in theirs.state_dict().items():
        assert state[name].shape == tuple(t.shape) and state[name].dtype == t.numpy().dtype
        np.testing.assert_allclose(state[name], t.numpy(), err_msg=name, **close)


IMAGE, ROWS = (2, 4, 7, 6), (5, 4)
LAYERS = {
    "conv": (lambda nn: nn.Conv2d(4, 6, 3), IMAGE),
    "conv-unbatched": (lambda nn: nn.Conv2d(4, 6, 3), IMAGE[1:]),
    "conv-strided": (
        lambda nn: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        IMAGE,
    ),
    "conv-groups": (lambda nn: nn.Conv2d(4, 8, 3, groups=2, bias=False), IMAGE),
    "conv-depthwise": (lambda nn: nn.Conv2d(4, 4, 3, padding="same", groups=4), IMAGE),
    "conv-reflect": (lambda nn: nn.Conv2d(4, 3, 3, padding=(2, 1), padding_mode="reflect"), IMAGE),
    "conv-circular": (lambda nn: nn.Conv2d(4, 3, (2, 3), padding="same", padding_mode="circular"), IMAGE),
    "conv-transpose": (lambda nn: nn.ConvTranspose2d(4, 6, 3), IMAGE),
    "conv-transpose-unbatched": (lambda nn: nn.ConvTranspose2d(4, 6, 2, stride=2), IMAGE[1:]),
    "conv-transpose-strided": (
        lambda nn: nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
        IMAGE,
    ),
    "conv-transpose-positional": (lambda nn: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 2), IMAGE),
    "linear": (lambda nn: nn.Linear(4, 3), ROWS),
    "linear-no-bias": (lambda nn: nn.Linear(4, 3, bias=False), (2, 3, 4)),
    "max-pool": (lambda nn: nn.MaxPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "avg-pool": (lambda nn: nn.AvgPool2d(2, stride=1, padding=1, count_include_pad=False), IMAGE),
    "adaptive-avg-pool": (lambda nn: nn.AdaptiveAvgPool2d((3, None)), IMAGE),
    "adaptive-max-pool": (lambda nn: nn.AdaptiveMaxPool2d(2), IMAGE),
    "batch-norm-2d": (lambda nn: nn.BatchNorm2d(4), IMAGE),
    "batch-norm-1d": (lambda nn: nn.BatchNorm1d(4, eps=1e-3, momentum=0.3), ROWS),
    "batch-norm-1d-length": (lambda nn: nn.BatchNorm1d(4), (3, 4, 5)),
    "batch-norm-cumulative": (lambda nn: nn.BatchNorm2d(4, momentum=None), IMAGE),
    "batch-norm-plain": (lambda nn: nn.BatchNorm2d(4, affine=False), IMAGE),
    "batch-norm-untracked": (lambda nn: nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    "relu": (lambda nn: nn.ReLU(), ROWS),
    "leaky-relu": (lambda nn: nn.LeakyReLU(0.2), ROWS),
    "sigmoid": (lambda nn: nn.Sigmoid(), ROWS),
    "tanh": (lambda nn: nn.Tanh(), ROWS),
    "softmax": (lambda nn: nn.Softmax(1), IMAGE),
    "log-softmax": (lambda nn: nn.LogSoftmax(-1), ROWS),
    "flatten": (lambda nn: nn.Flatten(), IMAGE),
    "identity": (lambda nn: nn.Identity(), ROWS),
    "zero-pad": (lambda nn: nn.ZeroPad2d((1, 2, 0, -1)), IMAGE),
    "constant-pad": (lambda nn: nn.ConstantPad2d(1, 2.5), IMAGE),
    "reflection-pad": (lambda nn: nn.ReflectionPad2d(2), IMAGE),
    "replication-pad": (lambda nn: nn.ReplicationPad2d((0, 3, 1, 0)), IMAGE),
    "circular-pad": (lambda nn: nn.CircularPad2d(2), IMAGE),
    "dropout-evaluation": (lambda nn: nn.Dropout().eval(), ROWS),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, dtype: Any, rng: np.random.Generator) -> None:
    build, shape = LAYERS[name]
    ours, theirs = both(build, dtype)
    for step in range(3):
        x = rng.standard_normal(shape).astype(dtype)
        if not list(ours.parameters()):
            out, expected = ours(x), theirs(torch.tensor(x)).numpy()
            np.testing.assert_allclose(out, expected, **tolerance(dtype))
            same_state(ours, theirs, tolerance(dtype))
        else:
            compare(ours, theirs, x, rng)
        if step == 1 and "dropout" not in name:
            ours.eval()
            theirs.eval()


def lenet(nn: Any) -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 10)),
    )


def residual(nn: Any) -> Any:
    class Block(nn.Module):
        def __init__(self, c_in: int, c_out: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(c_out)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(c_out)
            self.relu = nn.ReLU()
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out)
            )

        def forward(self, x: Any) -> Any:
            y = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.shortcut(x) + self.bn2(self.conv2(y)))

    return nn.Sequential(
        Block(3, 4, 1), Block(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )


NETS = {"lenet": (lenet, (4, 1, 12, 12)), "residual": (residual, (4, 3, 8, 8))}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("net", NETS)
def test_network(net: str, dtype: Any, rng: np.random.Generator) -> None:
    build, shape = NETS[net]
    ours, theirs = both(build, dtype)
    for _ in range(2):
        compare(ours, theirs, rng.standard_normal(shape).astype(dtype), rng)
    ours.eval()
    theirs.eval()
    compare(ours, theirs, rng.standard_normal(shape).astype(dtype), rng)


@pytest.mark.parametrize("net", NETS)
def test_weights_go_to_pytorch(net: str, rng: np.random.Generator) -> None:
    build, shape = NETS[net]
    ours, theirs = build(nn), build(torch.nn)
    ours(rng.standard_normal(shape).astype(np.float32))  # moves the running statistics
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})
    x = rng.standard_normal(shape).astype(np.float32)
    expected = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(x), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("net", NETS)
def test_loss_and_gradients(net: str, rng: np.random.Generator) -> None:
    build, shape = NETS[net]
    ours, theirs = both(build)
    x, y = rng.standard_normal(shape), rng.integers(0, 3, shape[0])
    loss = CrossEntropyLoss(label_smoothing=0.1)
    value, grads = value_and_grad(lambda x, y: loss(ours(x), y), ours)(x, y)
    expected = torch.nn.functional.cross_entropy(
        theirs(torch.tensor(x)), torch.tensor(y), label_smoothing=0.1
    )
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-10)
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad.numpy(), rtol=1e-8, atol=1e-12, err_msg=name)


def test_frozen_batch_norm_keeps_its_statistics(rng: np.random.Generator) -> None:
    ours, _ = both(residual)
    x = rng.standard_normal((4, 3, 8, 8))
    ours(x)
    ours.freeze()
    before = ours.state_dict()
    np.testing.assert_array_equal(ours(x), ours.eval()(x))
    ours.train()
    ours(x)
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    ours.unfreeze()
    ours(x)
    assert ours.state_dict()["0.bn1.num_batches_tracked"] == before["0.bn1.num_batches_tracked"] + 1


def test_shared_batch_norm_counts_each_use(rng: np.random.Generator) -> None:
    """One layer used twice in a pass: its statistics are updated twice, in program order."""

    def build(nn: Any) -> Any:
        layer = nn.BatchNorm1d(3, momentum=None)
        return nn.Sequential(layer, nn.Tanh(), layer)

    ours, theirs = both(build)
    for _ in range(3):
        compare(ours, theirs, rng.standard_normal((5, 3)), rng)
    assert ours.state_dict()["0.num_batches_tracked"] == 6


def test_batch_norm_numbers_are_read_at_each_run(rng: np.random.Generator) -> None:
    ours, theirs = both(lambda nn: nn.BatchNorm1d(3))
    x = rng.standard_normal((5, 3))
    plan = ours.plan(x)
    ours.momentum, ours.eps = 0.7, 0.1
    theirs.momentum, theirs.eps = 0.7, 0.1
    compare(ours, theirs, x, rng)
    assert ours.plan(x) is plan
    ours.momentum = theirs.momentum = None
    compare(ours, theirs, x, rng)


def test_batch_norm_errors() -> None:
    with pytest.raises(ValueError, match=r"BatchNorm2d: expected 4-d input, got 2-d \(x: \(2, 3\)\)"):
        nn.BatchNorm2d(3)(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="BatchNorm1d: expected 2-d or 3-d input, got 4-d"):
        nn.BatchNorm1d(3)(np.ones((2, 3, 1, 1), np.float32))


def test_dropout(rng: np.random.Generator) -> None:
    x = rng.uniform(1, 2, (100, 200)).astype(np.float32)
    layer = nn.Dropout(0.25)
    plan = layer.plan(x)
    y = layer(x)
    kept = y != 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-6)
    assert not np.array_equal(y, layer(x))
    layer.p = 0.9  # no new plan, but effect
    assert abs((layer(x) != 0).mean() - 0.1) < 0.02
    assert layer.plan(x) is plan
    np.testing.assert_array_equal(layer.eval()(x), x)
    layer.train().p = 2.0
    with pytest.raises(ValueError, match="Dropout: p expects a probability, between 0 and 1, got 2"):
        layer(x)


def test_max_pool_indices(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    values, indices = nn.MaxPool2d(2, return_indices=True)(x)
    v, i = torch.nn.MaxPool2d(2, return_indices=True)(torch.from_numpy(x))
    np.testing.assert_array_equal(values, v.numpy())
    np.testing.assert_array_equal(indices, i.numpy())


def test_four_number_padding(rng: np.random.Generator) -> None:
    """(left, right, top, bottom)."""
    layer = nn.Conv2d(2, 3, 3, padding=(0, 1, 2, 3))
    x = rng.standard_normal((1, 2, 5, 5)).astype(np.float32)
    same = nn.Conv2d(2, 3, 3)
    same.load_state_dict(layer.state_dict())
    padded = np.pad(x, ((0, 0), (0, 0), (2, 3), (0, 1)))
    np.testing.assert_allclose(layer(x), same(padded), rtol=1e-4, atol=1e-5)
    assert "padding=(0, 1, 2, 3)" in repr(layer)
    layer = nn.Conv2d(2, 3, 3, padding=(0, 1, 2, 3), padding_mode="replicate")
    assert layer(x).shape == (1, 3, 8, 4)


def test_deepcopy_computes_the_same(rng: np.random.Generator) -> None:
    model = residual(nn)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    other = copy.deepcopy(model)
    np.testing.assert_array_equal(model(x), other(x))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])


def test_summary_counts_parameters_and_flops() -> None:
    text = lenet(nn).summary((1, 12, 12))
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    conv = 2 * 6 * 25 * 144  # multiplications and additions
    assert lines["0"][-2] == str(6 * 25 + 6)
    assert conv <= int(lines["0"][-1].replace(",", "")) <= conv + 2 * 6 * 144
    total = sum(p.size for p in lenet(nn).parameters())
    assert f"Parameters: {total:,} ({total:,} trainable, 0 frozen)" in text
    assert "(1, 16, 1, 1)" in text
    residual(nn).summary((3, 8, 8))
