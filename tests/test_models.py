"""The networks of cnnmath.models: parameter counts, names, outputs; against checkpoints in tests/torch_oracle."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import numpy as np
import pytest

import cnnmath
from cnnmath import models

# Of the papers and of torchvision.
COUNTS = {
    "lenet5": 61_706,
    "small_cnn": 8_538,
    "vgg_small": 1_188_170,
    "resnet18": 11_689_512,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet34": 21_797_672,
    "resnet44": 658_586,
    "resnet56": 853_018,
}


def count(model: cnnmath.nn.Module) -> int:
    return sum(p.size for p in model.parameters())


def test_parameter_counts() -> None:
    assert sorted(models.names()) == sorted(COUNTS)
    for name, wanted in COUNTS.items():
        constructor = getattr(models, name)
        assert count(constructor()) == wanted, name
        assert constructor.__doc__ and name in models.__all__
        if name not in ("lenet5", "resnet20"):
            assert f"{wanted:,} parameters" in constructor.__doc__
    assert count(models.resnet20(option="B")) == 272_474
    assert count(models.vgg_small(batch_norm=False)) == 1_186_378


def test_options() -> None:
    assert count(models.small_cnn(image_size=28, width=32)) == 59_690
    for name in models.names():
        if "dropout" in models.options(name):
            model = models.create(name, image_size=32, dropout=0.3)
            assert {m.p for m in model.modules() if isinstance(m, cnnmath.nn.Dropout)} == {0.3}
            # The names of the weights are the same with and without.
            assert list(model.state_dict()) == list(models.create(name, image_size=32).state_dict())
    with pytest.raises(TypeError, match="resnet20 has no option 'dropout', which is for lenet5, small_cnn"):
        models.create("resnet20", dropout=0.1)
    with pytest.raises(TypeError, match="lenet5 has no option 'depth', which is for no model"):
        models.create("lenet5", depth=3)
    with pytest.raises(ValueError, match=r"options: expected one of lenet5, .*, got 'vgg16'"):
        models.options("vgg16")


def block(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """What torchvision's basic block has in its state dict."""
    found: dict[str, tuple[int, ...]] = {}
    for i, channels in ((1, inputs), (2, outputs)):
        found[f"{name}.conv{i}.weight"] = (outputs, channels, 3, 3)
        found.update(norm(f"{name}.bn{i}", outputs))
    if inputs != outputs:
        found[f"{name}.downsample.0.weight"] = (outputs, inputs, 1, 1)
        found.update(norm(f"{name}.downsample.1", outputs))
    return found


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    return {**shapes, f"{name}.num_batches_tracked": ()}


RESNET18: dict[str, tuple[int, ...]] = {
    "conv1.weight": (64, 3, 7, 7),
    **norm("bn1", 64),
    **block("layer1.0", 64, 64),
    **block("layer1.1", 64, 64),
    **block("layer2.0", 64, 128),
    **block("layer2.1", 128, 128),
    **block("layer3.0", 128, 256),
    **block("layer3.1", 256, 256),
    **block("layer4.0", 256, 512),
    **block("layer4.1", 512, 512),
    "fc.weight": (1000, 512),
    "fc.bias": (1000,),
}


def test_resnet18_has_the_names_of_torchvision() -> None:
    shapes = {name: array.shape for name, array in models.resnet18().state_dict().items()}
    assert list(shapes.items()) == list(RESNET18.items())  # also in their order
    assert len(shapes) == 122


def test_resnet20_has_the_names_of_its_checkpoints() -> None:
    names = set(models.resnet20().state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.bn2.bias", "layer3.2.conv2.weight"} <= names
    assert {"linear.weight", "linear.bias"} <= names and len(names) == 116
    assert not any("shortcut" in name for name in names)
    projected = set(models.resnet20(option="B").state_dict()) - names
    assert {name.rsplit(".", 1)[0] for name in projected} == {
        f"layer{i}.0.shortcut.{j}" for i in (2, 3) for j in (0, 1)
    }


def test_shortcut_of_option_a(rng: np.random.Generator) -> None:
    from cnnmath.models.resnet_cifar import SubsampledShortcut

    x = rng.normal(size=(2, 3, 5, 6)).astype(np.float32)
    y = SubsampledShortcut(3, 6, 2)(x)
    wanted = np.zeros((2, 6, 3, 3), np.float32)
    wanted[:, 1:4] = x[:, :, ::2, ::2]
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("name", COUNTS)
def test_any_channels_classes_and_sizes(name: str) -> None:
    for channels, classes, size in ((1, 4, 8), (2, 7, (28, 19)), (3, 10, 32), (1, 3, (37, 40))):
        model = models.create(name, num_classes=classes, in_channels=channels, image_size=size)
        shape = (size, size) if isinstance(size, int) else size
        x = np.zeros((2, channels, *shape), np.float32)
        assert model.eval()(x).shape == (2, classes)


def test_a_step_trains(rng: np.random.Generator) -> None:
    """Every parameter has a gradient, and the loss of the batch falls."""
    cnnmath.manual_seed(1)
    x = rng.normal(size=(8, 3, 16, 16)).astype(np.float32)
    y = np.arange(8) % 4
    for name in ("vgg_small", "resnet20", "resnet18"):
        model = models.create(name, num_classes=4, in_channels=3, image_size=16)
        loss = cnnmath.losses.CrossEntropyLoss()
        _, grads = cnnmath.value_and_grad(lambda x, y: loss(model(x), y), model)(x, y)  # noqa: B023
        assert all(np.abs(g).max() > 0 for key, g in grads.items() if not key.endswith("bias")), name
        trainer = cnnmath.Trainer(model, cnnmath.optim.Adam(model, lr=1e-3), loss)
        losses = [trainer.train_step(x, y) for _ in range(4)]
        assert losses[-1] < losses[0], name


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"create: expected one of lenet5, .*resnet56, got 'resnet21'"):
        models.create("resnet21")
    with pytest.raises(ValueError, match=r"a depth of 6n \+ 2, such as 20 or 56, got 21"):
        models.CifarResNet(21)
    with pytest.raises(ValueError, match="option 'A' or 'B', got 'C'"):
        models.resnet20(option="C")
    with pytest.raises(ValueError, match="small_cnn: image_size expects at least 4, got 3"):
        models.small_cnn(image_size=3)
    for name in models.names():
        with pytest.raises(ValueError, match="num_classes expects at least 1, got 0"):
            models.create(name, num_classes=0)


def test_import_is_lazy(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = "import sys, cnnmath; print('cnnmath.models' in sys.modules); cnnmath.models.lenet5()"
    assert run_python(code).stdout.strip() == "False"
