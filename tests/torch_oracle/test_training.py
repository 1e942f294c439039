"""Training against PyTorch: the same weights and batches give the same losses, weights and learning rates."""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cnnmath  # noqa: E402

torch.set_num_threads(1)

pytest.importorskip("cnnmath.nn")
pytest.importorskip("cnnmath.optim")
pytest.importorskip("cnnmath.training")

TOLERANCE = {np.float64: 1e-9, np.float32: 1e-4}
DTYPES = [pytest.param(np.float64, id="float64"), pytest.param(np.float32, id="float32")]
STEPS = 5


@pytest.fixture(scope="module")
def data() -> Path:
    root = os.environ.get("CNNMATH_DATA")
    if not root:
        pytest.skip("CNNMATH_DATA does not name a folder with mnist/ and cifar-10/")
    return Path(root)


def mnist(root: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(root / "mnist" / "train-images-idx3-ubyte.gz") as f:
        images = np.frombuffer(f.read(16 + count * 784), np.uint8, offset=16).reshape(count, 1, 28, 28)
    with gzip.open(root / "mnist" / "train-labels-idx1-ubyte.gz") as f:
        labels = np.frombuffer(f.read(8 + count), np.uint8, offset=8)
    return images / 255.0, labels.astype(np.int64)


def cifar10(root: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    with lzma.open(root / "cifar-10" / "data_batch_1.bin.xz") as f:
        records = np.frombuffer(f.read(count * 3073), np.uint8).reshape(count, 3073)
    return records[:, 1:].reshape(count, 3, 32, 32) / 255.0 - 0.5, records[:, 0].astype(np.int64)


def strokes(root: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels to tell apart: paper, the border of a stroke, ink. 27 is odd on each of a U-Net's levels but the last."""
    images, _ = mnist(root, count)
    images = images[:, :, :27, :27]
    return images, np.digitize(images[:, 0], [0.1, 0.7]).astype(np.int64)


# A model is written once: `nn` is torch.nn or cnnmath.nn.


def lenet5(nn: Any) -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def resnet20(nn: Any) -> Any:
    class Block(nn.Module):
        def __init__(self, c_in: int, c_out: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(c_out)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(c_out)
            self.relu = nn.ReLU()
            self.shortcut = nn.Identity()
            if stride != 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out)
                )

        def forward(self, x: Any) -> Any:
            y = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    blocks, width = [], 16
    for stage in range(3):
        for i in range(3):
            c_out = 16 << stage
            blocks.append(Block(width, c_out, 2 if stage > 0 and i == 0 else 1))
            width = c_out
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *blocks,
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def unet(nn: Any) -> Any:
    """Down and up again, with what was seen on the way down beside it; the sizes come back by `output_size`."""
    cat = cnnmath.functional.cat if nn is cnnmath.nn else torch.cat

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down1 = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
            self.down2 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
            self.bottom = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU())
            self.widen2 = nn.ConvTranspose2d(32, 16, 2, stride=2)
            self.up2 = nn.Sequential(nn.Conv2d(32, 16, 3, padding=1), nn.ReLU())
            self.widen1 = nn.ConvTranspose2d(16, 8, 2, stride=2)
            self.up1 = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.ReLU())
            self.head = nn.Conv2d(8, 3, 1)
            self.pool = nn.MaxPool2d(2)

        def forward(self, x: Any) -> Any:
            first = self.down1(x)
            second = self.down2(self.pool(first))
            y = self.bottom(self.pool(second))
            y = self.up2(cat([second, self.widen2(y, output_size=second.shape[-2:])], 1))
            y = self.up1(cat([first, self.widen1(y, output_size=first.shape[-2:])], 1))
            return self.head(y)

    return UNet()


OPTIMIZERS = {"SGD": {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4}, "Adam": {"lr": 1e-3}}
# Rounding turns a ReLU on or off, or the sign of a small gradient, and ResNet-20 magnifies that: at the rates
# above the float32 losses of its fifth step, PyTorch's as well as ours, are a few thousandths off those in
# float64, and PyTorch's change with its thread count. At these rates both stay within 2e-5 for all of four seeds; with
# the larger rounding of Winograd's filtering, within 3e-4.
RATES_FLOAT32_RESNET = {"SGD": 3e-4, "Adam": 1e-4}


@pytest.fixture(params=["auto", "direct"])
def algorithm(request: pytest.FixtureRequest) -> Iterator[str]:
    cnnmath.set_conv_algorithm(request.param)
    yield request.param
    cnnmath.set_conv_algorithm("auto")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("build", "load", "batch"),
    [(lenet5, mnist, 32), (resnet20, cifar10, 8), (unet, strokes, 8)],
    ids=["lenet5-mnist", "resnet20-cifar10", "unet-strokes"],
)
def test_first_steps(
    build: Any, load: Any, batch: int, optimizer: str, dtype: Any, algorithm: str, data: Path, seed: int
) -> None:
    """The reference is PyTorch in float64, on the weights and images that the float32 model has."""
    options = dict(OPTIMIZERS[optimizer])
    if build is resnet20 and dtype is np.float32:
        options["lr"] = RATES_FLOAT32_RESNET[optimizer]
    images, labels = load(data, STEPS * batch)
    images = images.astype(np.float32)
    torch.manual_seed(seed)
    theirs = build(torch.nn)
    ours = build(cnnmath.nn)
    ours.load_state_dict({name: t.numpy().copy() for name, t in theirs.state_dict().items()})
    theirs.double()
    if dtype is np.float64:
        ours.double()

    their_optimizer = getattr(torch.optim, optimizer)(theirs.parameters(), **options)
    trainer = cnnmath.Trainer(
        ours,
        getattr(cnnmath.optim, optimizer)(ours.parameters(), **options),
        cnnmath.losses.CrossEntropyLoss(),
    )
    our_losses, their_losses = [], []
    for step in range(STEPS):
        x, y = images[step * batch : (step + 1) * batch], labels[step * batch : (step + 1) * batch]
        our_losses.append(trainer.train_step(x.astype(dtype), y))
        their_optimizer.zero_grad()
        logits = theirs(torch.from_numpy(x.astype(np.float64)))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y.copy()))
        loss.backward()
        their_optimizer.step()
        their_losses.append(loss.item())
    filtered = build is resnet20 and dtype is np.float32 and algorithm == "auto"
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-3 if filtered else TOLERANCE[dtype], atol=0)
    if dtype is np.float64:  # the weights and running statistics too
        state = ours.state_dict()
        assert list(state) == list(theirs.state_dict())
        for name, t in theirs.state_dict().items():
            np.testing.assert_allclose(state[name], t.numpy(), rtol=1e-6, atol=1e-8, err_msg=name)


SGD = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"weight_decay": 0.1},
    {"momentum": 0.5, "dampening": 0.5, "weight_decay": 0.1},
]
ADAM = [
    {},
    {"betas": (0.7, 0.9)},
    {"eps": 1e-3},
    {"weight_decay": 0.1},
    {"amsgrad": True},
    {"amsgrad": True, "weight_decay": 0.1, "betas": (0.5, 0.6)},
]
TRAJECTORIES = [
    (name, o) for name, options in (("SGD", SGD), ("Adam", ADAM), ("AdamW", ADAM)) for o in options
]


def two_layers(dtype: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    theirs = torch.nn.Linear(37, 5).to(getattr(torch, np.dtype(dtype).name))
    ours = cnnmath.nn.Linear(37, 5)
    if dtype is np.float64:
        ours.double()
    state = {
        "weight": rng.standard_normal((5, 37)).astype(dtype),
        "bias": rng.standard_normal(5).astype(dtype),
    }
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in state.items()})
    return ours, theirs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "options"), TRAJECTORIES, ids=lambda v: v if isinstance(v, str) else "-".join(v)
)
def test_optimizer_trajectory(
    name: str, options: dict[str, Any], dtype: Any, rng: np.random.Generator
) -> None:
    """The same gradients for 20 steps, with a learning rate that changes on the way."""
    ours, theirs = two_layers(dtype, rng)
    our_optimizer = getattr(cnnmath.optim, name)(ours.parameters(), lr=0.05, **options)
    their_optimizer = getattr(torch.optim, name)(theirs.parameters(), lr=0.05, **options)
    for step in range(20):
        if step == 10:
            our_optimizer.param_groups[0]["lr"] = their_optimizer.param_groups[0]["lr"] = 0.02
        gradients = {
            "weight": rng.standard_normal((5, 37)).astype(dtype),
            "bias": rng.standard_normal(5).astype(dtype),
        }
        our_optimizer.step(gradients)
        for parameter_name, parameter in theirs.named_parameters():
            parameter.grad = torch.from_numpy(gradients[parameter_name].copy())
        their_optimizer.step()
    state = ours.state_dict()
    tolerance = 1e-12 if dtype is np.float64 else 2e-5
    for parameter_name, t in theirs.state_dict().items():
        np.testing.assert_allclose(state[parameter_name], t.numpy(), rtol=tolerance, atol=tolerance)


def test_parameter_groups(rng: np.random.Generator) -> None:
    """Options of a group override the optimizer's."""
    ours, theirs = two_layers(np.float64, rng)
    our_optimizer, their_optimizer = (
        module.SGD(
            [{"params": [model.weight], "lr": 0.2}, {"params": [model.bias], "momentum": 0.5}],
            lr=0.01,
            momentum=0.9,
            weight_decay=0.1,
        )
        for module, model in ((cnnmath.optim, ours), (torch.optim, theirs))
    )
    for _ in range(5):
        gradients = {"weight": rng.standard_normal((5, 37)), "bias": rng.standard_normal(5)}
        our_optimizer.step(gradients)
        for parameter_name, parameter in theirs.named_parameters():
            parameter.grad = torch.from_numpy(gradients[parameter_name].copy())
        their_optimizer.step()
    for parameter_name, t in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[parameter_name], t.numpy(), rtol=1e-12, atol=1e-12)


SCHEDULES = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 1, "gamma": 0.5}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),  # beyond T_max the rate rises again
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25}),
    ("OneCycleLR", {"max_lr": 0.5, "epochs": 5, "steps_per_epoch": 5, "pct_start": 0.1, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25, "anneal_strategy": "linear", "three_phase": True}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25, "final_div_factor": 100.0, "cycle_momentum": False}),
]


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_schedule(name: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    ours, theirs = two_layers(np.float64, rng)
    our_optimizer = cnnmath.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    their_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    our_schedule = getattr(cnnmath.optim.schedules, name)(our_optimizer, **options)
    their_schedule = getattr(torch.optim.lr_scheduler, name)(their_optimizer, **options)
    gradients = {"weight": np.zeros((5, 37)), "bias": np.zeros(5)}
    ours_seen, theirs_seen = [], []
    for _ in range(24):
        for seen, optimizer in ((ours_seen, our_optimizer), (theirs_seen, their_optimizer)):
            group = optimizer.param_groups[0]
            seen.append((group["lr"], group["momentum"]))
        our_optimizer.step(gradients)
        their_optimizer.step()
        our_schedule.step()
        their_schedule.step()
    np.testing.assert_allclose(ours_seen, theirs_seen, rtol=1e-12, atol=1e-15)
