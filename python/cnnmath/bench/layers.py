"""One layer in one library: its forward pass, or forward and backward, on channels-last images.

A layer is told as a row of JSON: the name of its module, the arguments of that, the shape of its input, such as
{"module": "Conv2d", "arguments": {"in_channels": 3, "out_channels": 8, "kernel_size": 3}, "input": [16, 3, 32, 32]}.
With backward, the cotangent of the output is given, and the results are the output and the gradients of the input and
of all parameters. In cnnmath that is one plan, as the layer is a part of a training step's. The loss CrossEntropyLoss
is a layer, too, whose input are logits (n, classes).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .networks import initial_state
from .session import Session, sampled

Array = npt.NDArray[Any]
Spec = dict[str, Any]
Step = Callable[
    [], list[Array]
]  # the results in PyTorch's shapes: output, gradient of the input, of each parameter

FACTORY = "cnnmath.bench.layers:layer_session"


def layer_session(library: str, spec: Spec, backward: bool, threads: int, work: float = 0.0) -> Session:
    x = normal(tuple(spec["input"]), 0)
    step, build = LIBRARIES[library](spec, x, backward, threads)
    return Session(step, [sampled(result) for result in step()], work, build)


def normal(shape: tuple[int, ...], seed: int) -> Array:
    """The same numbers in every library."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape), np.float32)


def classes(spec: Spec) -> Array:
    """The targets of a loss."""
    n, count = spec["input"]
    return np.asarray(np.random.default_rng(2).integers(0, count, n))


def planned(spec: Spec, x: Array, backward: bool) -> tuple[Any, list[Array]]:
    """The plan of a layer on x, and the arrays to run it on; with backward the cotangent is the second."""
    from .. import losses, nn
    from ..graph.autodiff import differentiate
    from ..graph.ir import Graph, Spec, tracing
    from ..planner.plan import Plan

    graph = Graph()
    arrays = [x]
    parameters: list[Any] = []
    with tracing(graph):
        symbol = graph.input(Spec(x.shape, x.dtype))
        if spec["module"] == "CrossEntropyLoss":
            y = losses.CrossEntropyLoss()(symbol, graph.constant(classes(spec)))
        else:
            module = getattr(nn, spec["module"])(**spec["arguments"])
            module.load_state_dict(initial_state(module.state_dict()))
            parameters = list(module.parameters())
            y = module(symbol)
    graph.outputs = [y]
    if backward:
        dy = graph.input(Spec(y.shape, y.dtype), "dy")
        arrays.append(channels_last(normal(y.shape, 1)))
        wanted = [symbol, *map(graph.variable, parameters)]
        graph.outputs += [g for g in differentiate(graph, [y], [dy], wanted) if g is not None]
    return Plan(graph), arrays


def _cnnmath(spec: Spec, x: Array, backward: bool, threads: int) -> tuple[Step, str]:
    from ..machine import set_num_threads
    from .kernel import build

    set_num_threads(threads)
    plan, arrays = planned(spec, channels_last(x), backward)
    return lambda: plan(*arrays), build()


def channels_last(x: Array) -> Array:
    """The same numbers, images lying channels-last in memory."""
    if x.ndim != 4:
        return x
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _torch(
    spec: Spec, x: Array, backward: bool, threads: int, channels_last: bool = False
) -> tuple[Step, str]:
    import torch

    from .backends import load_into_torch

    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last and x.ndim == 4 else torch.contiguous_format
    module = getattr(torch.nn, spec["module"])(**spec["arguments"])
    load_into_torch(module)
    module = module.to(memory_format=layout) if channels_last else module
    tx = torch.from_numpy(x).contiguous(memory_format=layout).requires_grad_(backward)
    wanted = [tx, *module.parameters()]
    given = (tx, torch.from_numpy(classes(spec))) if spec["module"] == "CrossEntropyLoss" else (tx,)
    with torch.no_grad():
        shape = tuple(module(*given).shape)
    load_into_torch(module)  # running statistics have moved
    layout = layout if len(shape) == 4 else torch.contiguous_format
    dy = torch.from_numpy(normal(shape, 1)).contiguous(memory_format=layout)

    def step() -> list[Array]:
        if not backward:
            with torch.inference_mode():
                return [module(*given).numpy()]
        y = module(*given)
        return [y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, wanted, dy))]

    return step, f"torch {torch.__version__}"


def _numpy(spec: Spec, x: Array, backward: bool, threads: int) -> tuple[Step, str]:
    from . import numpy_cnn

    if spec["module"] == "CrossEntropyLoss":
        layer: numpy_cnn.Layer = numpy_cnn.CrossEntropyLoss(classes(spec))
    else:
        layer = getattr(numpy_cnn, spec["module"])(**spec["arguments"])
    layer.load_state_dict(initial_state(layer.state_dict()))
    inside = numpy_cnn.channels_last(x) if x.ndim == 4 else x
    grad: Array | None = None

    def step() -> list[Array]:
        nonlocal grad
        y = layer.forward(inside)
        results = [y.transpose(0, 3, 1, 2) if y.ndim == 4 else y]
        if not backward:
            return results
        if grad is None:
            dy = normal(results[0].shape, 1)
            grad = numpy_cnn.channels_last(dy) if dy.ndim == 4 else dy
        dx = layer.backward(grad)
        results.append(dx.transpose(0, 3, 1, 2) if dx.ndim == 4 else dx)
        return results + [layer.outside(name, layer.grads[name]) for name in layer.params]

    return step, f"numpy {np.__version__}"


LIBRARIES: dict[str, Callable[[Spec, Array, bool, int], tuple[Step, str]]] = {
    "cnnmath": _cnnmath,
    "numpy": _numpy,
    "torch": _torch,
    "torch-channels_last": partial(_torch, channels_last=True),
}
