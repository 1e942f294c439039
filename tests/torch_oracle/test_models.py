"""cnnmath.models beside the same networks in PyTorch, and with weights that PyTorch trained."""

from __future__ import annotations

import lzma
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cnnmath  # noqa: E402
from cnnmath import models  # noqa: E402


def load(model: cnnmath.nn.Module) -> dict[str, Any]:
    return {name: torch.from_numpy(np.array(a)) for name, a in model.state_dict().items()}


def norm(x: Any, w: dict[str, Any], name: str) -> Any:
    parts = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return torch.nn.functional.batch_norm(x, *parts)


def resnet(x: Any, w: dict[str, Any], stem: Any, head: str) -> Any:
    """A residual network in evaluation mode, by the names of its state dict."""
    conv2d, relu = torch.nn.functional.conv2d, torch.relu
    x = stem(relu(norm(stem.conv(x, w["conv1.weight"]), w, "bn1")))
    stage = 1
    while f"layer{stage}.0.conv1.weight" in w:
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in w:
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = relu(norm(conv2d(x, w[f"{name}.conv1.weight"], None, stride, 1), w, f"{name}.bn1"))
            y = norm(conv2d(y, w[f"{name}.conv2.weight"], None, 1, 1), w, f"{name}.bn2")
            if f"{name}.downsample.0.weight" in w:
                x = norm(conv2d(x, w[f"{name}.downsample.0.weight"], None, stride), w, f"{name}.downsample.1")
            elif stride == 2:
                more = (y.shape[1] - x.shape[1]) // 2
                x = torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
            x = relu(x + y)
            block += 1
        stage += 1
    return torch.nn.functional.linear(x.mean((2, 3)), w[f"{head}.weight"], w[f"{head}.bias"])


class ImageStem:
    @staticmethod
    def conv(x: Any, weight: Any) -> Any:
        return torch.nn.functional.conv2d(x, weight, None, 2, 3)

    def __call__(self, x: Any) -> Any:
        return torch.nn.functional.max_pool2d(x, 3, 2, 1)


class CifarStem:
    @staticmethod
    def conv(x: Any, weight: Any) -> Any:
        return torch.nn.functional.conv2d(x, weight, None, 1, 1)

    def __call__(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(("name", "size"), [("resnet18", 72), ("resnet34", 64), ("resnet20", 32)])
def test_resnets(name: str, size: int, rng: np.random.Generator) -> None:
    cnnmath.manual_seed(3)
    model = models.create(name, num_classes=11)
    state = model.state_dict()
    for key, array in state.items():  # statistics and scales that are not 0 and 1
        if array.ndim == 1:
            state[key] = rng.uniform(0.5, 1.5, array.shape).astype(array.dtype)
    model.load_state_dict(state)
    model.eval().double()
    x = rng.normal(size=(2, 3, size, size))
    stem, head = (CifarStem(), "linear") if name == "resnet20" else (ImageStem(), "fc")
    wanted = resnet(torch.from_numpy(x), load(model), stem, head).numpy()
    np.testing.assert_allclose(model(x), wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


@pytest.mark.parametrize(("depth", "digest"), [(20, "12fca82f"), (32, "d509ac18")])
def test_pretrained_weights(depth: int, digest: str) -> None:
    """The checkpoints load by their names, and are as good as their authors say (91.73 and 92.63 %)."""
    root = os.environ.get("CNNMATH_DATA")
    if not root:
        pytest.skip("CNNMATH_DATA is not set")
    path = Path(root) / "pretrained" / "resnet-cifar10" / f"resnet{depth}-{digest}.th"
    saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    weights = {name.removeprefix("module."): tensor.numpy() for name, tensor in saved.items()}
    model = models.create(f"resnet{depth}")
    model.load_state_dict(weights)
    # Of all the files only the one of the test: the others take long to unpack.
    packed = (Path(root) / "cifar-10" / "test_batch.bin.xz").read_bytes()
    records = np.frombuffer(lzma.decompress(packed), np.uint8).reshape(-1, 3073)[:1000]
    x, y = records[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255, records[:, 0].astype(np.int64)
    mean, std = (
        np.array(v, np.float32)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    x = (x - mean) / std
    logits = np.concatenate([model.eval()(x[i : i + 100]) for i in range(0, 1000, 100)])
    theirs = resnet(torch.from_numpy(x[:50]), load(model), CifarStem(), "linear").numpy()
    np.testing.assert_allclose(logits[:50], theirs, rtol=1e-3, atol=1e-3)
    assert cnnmath.metrics.accuracy(logits, y) > 0.9
