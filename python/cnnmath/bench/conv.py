"""Single convolution layers, forward and both gradients: GFLOP/s, and how much of the same run's peak."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .kernel import KernelCall, aligned, build
from .peak import with_peak
from .plots import bars
from .race import Team, add_arguments, contest, parsed, progress
from .report import Row, report
from .session import Session, sampled

Array = npt.NDArray[Any]

# name: images, channels in, channels out, map, kernel, stride, padding
LAYERS = {
    "lenet.1": (64, 1, 6, 28, 5, 1, 2),
    "lenet.2": (64, 6, 16, 14, 5, 1, 0),
    "mnist.1": (64, 1, 32, 28, 3, 1, 0),
    "mnist.2": (64, 32, 64, 26, 3, 1, 0),
    "vgg.1": (64, 3, 64, 32, 3, 1, 1),
    "vgg.2": (64, 64, 64, 32, 3, 1, 1),
    "vgg.4": (64, 128, 128, 16, 3, 1, 1),
    "vgg.6": (64, 256, 256, 8, 3, 1, 1),
    "resnet20.16": (128, 16, 16, 32, 3, 1, 1),
    "resnet20.32s2": (128, 16, 32, 32, 3, 2, 1),
    "resnet20.32": (128, 32, 32, 16, 3, 1, 1),
    "resnet20.64": (128, 64, 64, 8, 3, 1, 1),
    "resnet18.stem": (16, 3, 64, 224, 7, 2, 3),
    "resnet18.64": (16, 64, 64, 56, 3, 1, 1),
    "resnet18.128s2": (16, 64, 128, 56, 3, 2, 1),
    "resnet18.128p": (16, 64, 128, 56, 1, 2, 0),
    "resnet18.256": (16, 256, 256, 14, 3, 1, 1),
    "resnet18.512": (16, 512, 512, 7, 3, 1, 1),
}
PASSES = ("forward", "grad_input", "grad_weight")
TOLERANCE = 1e-4


def conv_session(library: str, layer: str, which: str, threads: int) -> Session:
    n, c, o, size, k, stride, padding = LAYERS[layer]
    out = (size + 2 * padding - k) // stride + 1
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, size, size, c)).astype(np.float32)
    weight = (rng.normal(size=(k, k, c, o)) / np.sqrt(c * k * k)).astype(np.float32)
    grad = rng.normal(size=(n, out, out, o)).astype(np.float32)
    make: dict[str, Callable[..., Step]] = {"cnnmath": _cnnmath, "numpy": _numpy, "torch": _torch}
    make["cnnmath-direct"] = partial(_cnnmath, direct=True)
    make["torch-channels_last"] = partial(_torch, channels_last=True)
    step, version = make[library](x, weight, grad, stride, padding, which, threads)
    return Session(step, sampled(step()), 2.0 * grad.size * k * k * c, version)


# Each gives a function that computes one pass and returns it as NHWC or HWIO.
Step = tuple[Callable[[], Array], str]


def _cnnmath(
    x: Array,
    weight: Array,
    grad: Array,
    stride: int,
    padding: int,
    which: str,
    threads: int,
    direct: bool = False,
) -> Step:
    from ..machine import set_num_threads

    set_num_threads(threads)
    fields = {
        "groups": 1,
        "relu": 0,
        "direct": direct,
        "lasting": 0,
        "sh": stride,
        "sw": stride,
        "dh": 1,
        "dw": 1,
        "pt": padding,
        "pl": padding,
    }
    for names, shape in ((("n", "h", "w", "c"), x.shape), (("n", "oh", "ow", "oc"), grad.shape)):
        fields |= dict(zip(names, shape, strict=True))
    fields["kh"], fields["kw"] = weight.shape[:2]
    inputs: dict[str, list[Array | None]] = {
        "forward": [x, weight, None],
        "grad_input": [grad, weight],
        "grad_weight": [x, grad],
    }
    result = aligned({"forward": grad, "grad_input": x, "grad_weight": weight}[which].shape)
    call = KernelCall(
        "conv2d" if which == "forward" else f"conv2d_{which}", "f32", fields, [*inputs[which], result]
    )

    def step() -> Array:
        call()
        return result

    return step, build()


def _numpy(x: Array, weight: Array, grad: Array, stride: int, padding: int, which: str, threads: int) -> Step:
    from .numpy_cnn import Conv2d

    layer = Conv2d(x.shape[3], grad.shape[3], len(weight), stride, padding, bias=False)
    layer.params["weight"] = weight
    layer.forward(x)
    step: dict[str, Callable[[], Array]] = {
        "forward": lambda: layer.forward(x),
        "grad_input": lambda: layer.grad_input(grad),
        "grad_weight": lambda: layer.grad_weight(grad),
    }
    return step[which], f"numpy {np.__version__}"


def _torch(
    x: Array,
    weight: Array,
    grad: Array,
    stride: int,
    padding: int,
    which: str,
    threads: int,
    channels_last: bool = False,
) -> Step:
    import torch

    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    tx, tg = (torch.from_numpy(a.transpose(0, 3, 1, 2)).contiguous(memory_format=layout) for a in (x, grad))
    tw = torch.from_numpy(weight.transpose(3, 2, 0, 1)).contiguous(memory_format=layout)

    def step() -> Array:
        if which == "forward":
            return np.asarray(torch.nn.functional.conv2d(tx, tw, None, stride, padding)).transpose(0, 2, 3, 1)
        mask = [which == "grad_input", which == "grad_weight", False]
        geometry = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1
        gradients = torch.ops.aten.convolution_backward(tg, tx, tw, None, *geometry, mask)
        if which == "grad_input":
            return np.asarray(gradients[0]).transpose(0, 2, 3, 1)
        return np.asarray(gradients[1]).transpose(2, 3, 1, 0)

    return step, f"torch {torch.__version__}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="cnnmath bench conv", description=__doc__)
    add_arguments(parser, ["cnnmath", "numpy", "torch", "torch-channels_last"], seconds=0.2)
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    options = parsed(parser, arguments)
    rows: list[Row] = []
    workloads = [(layer, which) for layer in options.layers for which in options.passes]
    with Team(options.threads) as team:
        for layer, which in progress(workloads, "conv"):
            workload = {"layer": layer, "which": which}
            measured = contest("cnnmath.bench.conv:conv_session", workload, options, TOLERANCE, team)
            rows += [{"layer": layer, "pass": which} | row for row in measured]
    rows = with_peak(rows, options.threads)
    pictures = {"conv": bars(("layer", "pass"), "GFLOP/s", "Convolution layers")}
    report("conv", rows, options.threads, options, pictures=pictures)
