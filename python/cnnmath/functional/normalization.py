"""Batch normalisation (Ioffe and Szegedy 2015, "Batch Normalization")."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..graph.ir import Cell, CellLike, Node, Op, Spec, Tensor, apply, as_tensor
from ..planner.eager import default_layout, function
from ..planner.lowering import Lowering
from ._checks import floating

# x is (N, C) or (N, C, H, W) in these ops: in memory rows of C channels.


def _rows(x: Tensor) -> dict[str, int]:
    c = x.shape[1]
    return {"rows": prod(x.shape) // c if c else 0, "c": c}


class _Training(Op):
    """y = (x - mean) * invstd * weight + bias with the mean and invstd = 1 / sqrt(var + eps) of each channel.

    Inputs: x, weight?, bias?, running_mean?, running_var?, residual?; outputs: y, mean, invstd and (3, C), the mean,
    scale and shift of y = (x - mean) * scale + shift. The running arrays are moved towards mean and var. With a
    residual and relu=True y = max(... + residual, 0).
    """

    name = "batch_norm"
    fuses_relu = True
    residual_input = 5

    def __init__(self, effect: bool) -> None:
        self.effect = effect

    def infer(self, x: Tensor, *others: Tensor | None, relu: bool = False) -> tuple[Spec, ...]:
        channels = Spec((x.shape[1],), x.dtype)
        return Spec(x.shape, x.dtype), channels, channels, Spec((3, x.shape[1]), x.dtype)

    def writes(self, node: Node) -> tuple[Tensor, ...]:
        return tuple(t for t in node.inputs[3:5] if t is not None)

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        x, weight = node.inputs[:2]
        _, mean, invstd, _ = node.outputs
        assert x is not None and grads[0] is not None
        dx, dweight, dbias = apply(
            batch_norm_grad, default_layout(grads[0]), x, weight, mean, invstd, None, None
        )
        return dx, dweight, dbias, None, None, None

    def lower(self, low: Lowering, node: Node) -> None:
        x, weight, bias, running_mean, running_var, residual = node.inputs[:6]
        y, *statistics = node.outputs
        assert x is not None
        args = [
            x,
            weight,
            bias,
            running_mean,
            running_var,
            node.cells.get("momentum"),
            node.cells["eps"],
            residual,
        ]
        low.call(
            "batch_norm",
            [*args, node.input(6), node.input(7), y if low.wanted(y) else None, *statistics],
            **_rows(x),
            relu=node.attrs.get("relu", False),
        )

    def flops(self, node: Node) -> int:
        return 7 * node.output.size


class _Evaluation(Op):
    """y = (x - mean) / sqrt(var + eps) * weight + bias with given mean and var.

    Inputs: x, weight?, bias?, mean, var, residual?. With a residual and relu=True y = max(... + residual, 0).
    """

    name = "batch_norm_eval"
    fuses_relu = True
    residual_input = 5

    def infer(self, x: Tensor, *others: Tensor | None, relu: bool = False) -> Spec:
        return Spec(x.shape, x.dtype)

    def gradient(
        self, node: Node, grads: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        x, weight, _, mean, var, _ = node.inputs
        assert x is not None and grads[0] is not None
        eps = node.cells["eps"]
        dy = default_layout(grads[0])
        inputs = (dy, x, weight, mean, var, None, None)
        dx, dweight, dbias = apply(batch_norm_eval_grad, *inputs, cells={"eps": eps})
        return dx, dweight, dbias, None, None, None

    def lower(self, low: Lowering, node: Node) -> None:
        x, weight, bias, mean, var, residual = node.inputs
        assert x is not None
        low.share(node.output, x)
        args = [x, mean, var, weight, bias, node.cells["eps"], residual, node.output]
        low.call("batch_norm_eval", args, **_rows(x), relu=node.attrs.get("relu", False))

    def flops(self, node: Node) -> int:
        return 3 * node.output.size


class _Grad(Op):
    """dx, dweight, dbias; see cpp/kernels/norm/norm.h.

    Inputs: dy, x, weight?, mean, invstd in training or var in evaluation, y?, bias?. With relu=True, where a ReLU came
    behind, dy counts where its output y > 0, and this masked dy is one more output; without y it is computed anew from
    x and bias.
    """

    def __init__(self, name: str, training: bool) -> None:
        self.name = name
        self.training = training

    def infer(self, dy: Tensor, x: Tensor, *others: Tensor | None) -> tuple[Spec, Spec, Spec]:
        channels = Spec((x.shape[1],), x.dtype)
        return Spec(x.shape, x.dtype), channels, channels

    def with_relu_mask(self, node: Node, y: Tensor) -> tuple[Tensor | None, ...]:
        forward, mean = y.node, node.inputs[3]
        if forward is not None and forward.op.name == "batch_norm" and forward.outputs[1] is mean:
            _, _, bias, _, _, residual = forward.inputs
            if residual is None:  # y = relu(norm(x)) is sooner computed than read
                return (*node.inputs[:5], None, bias)
        return (*node.inputs[:5], y, None)

    def lower(self, low: Lowering, node: Node) -> None:
        dy, x, weight, mean, spread, y, bias = node.inputs
        assert dy is not None and x is not None
        dx, dweight, dbias, *masked = [t if low.wanted(t) else None for t in node.outputs]
        dz = masked[0] if masked else None
        if dz is not None:
            low.share(dz, dy)
        elif dx is not None:
            low.share(dx, dy)
        statistics = [mean, spread, None, None] if self.training else [mean, None, spread, node.cells["eps"]]
        low.call(
            "batch_norm_backward",
            [dy, x, weight, bias, *statistics, y, dx, dweight, dbias, dz],
            **_rows(x),
            relu=node.attrs.get("relu", False),
            training=self.training,
            sums=self.training or any(t is not None for t in (dweight, dbias, dz)),
        )

    def flops(self, node: Node) -> int:
        return (10 if self.training else 5) * node.output.size


batch_norm_moving = _Training(effect=True)
batch_norm_still = _Training(effect=False)
batch_norm_evaluation = _Evaluation()
batch_norm_grad = _Grad("batch_norm_grad", training=True)
batch_norm_eval_grad = _Grad("batch_norm_eval_grad", training=False)


def channel_affine(norm: Node, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """(scale, shift), each (C,): a batch_norm_eval gives x * scale + shift for x + bias."""
    _, weight, norm_bias, mean, var, _ = norm.inputs
    assert var is not None
    channels = var.shape

    def evaluated(x: Any, bias: Tensor | None, mean: Any) -> Tensor:
        inputs = (as_tensor(x).reshape(1, *channels), weight, bias, mean, var, None)
        row: Tensor = apply(batch_norm_evaluation, *inputs, cells={**norm.cells})
        return row.reshape(channels)

    ones, zeros = np.ones(channels, var.dtype), np.zeros(channels, var.dtype)
    return evaluated(ones, None, zeros), evaluated(zeros if bias is None else bias, norm_bias, mean)


def _check(x: Tensor, channels: dict[str, Tensor | None], training: bool) -> None:
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x expects at least 2 dims, (N, C, ...), got {x.shape}")
    for name, t in channels.items():
        if t is not None and t.shape != (x.shape[1],):
            wants = f"{t.size} channels" if t.ndim == 1 else "one dim, the channels"
            raise ValueError(
                f"batch_norm: {name} expects {wants}, x has {x.shape[1]} ({name}: {t.shape}, x: {x.shape})"
            )
    if training and prod(x.shape[:1] + x.shape[2:]) == 1:
        raise ValueError(f"batch_norm: expected more than one value per channel in training, got x {x.shape}")
    if not training and (channels["running_mean"] is None or channels["running_var"] is None):
        raise ValueError("batch_norm: running_mean and running_var are needed with training=False")


@function
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: CellLike = 0.1,
    eps: CellLike = 1e-5,
) -> Any:
    """Normalises each channel: y = (x - mean) / sqrt(var + eps) * weight + bias.

    In training mean and var are those of the batch, over all dims but the channels', var with divisor n, and the
    running arrays are changed in place: running = (1 - momentum) * running + momentum * new, the new variance with
    divisor n - 1. In evaluation mean and var are the running arrays.

    Args:
        input: x, float32 or float64, (N, C) or (N, C, ...).
        running_mean, running_var: (C,), or None in training.
        weight, bias: (C,), or None for 1 and 0.
        training: whether the statistics of the batch are used.
        momentum, eps: numbers.

    Returns:
        An array of the shape and dtype of `input`. Raises ValueError for shapes that do not fit and for a single value
        per channel in training, TypeError for other or different dtypes.

    >>> import numpy as np, cnnmath
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> cnnmath.functional.batch_norm(x, None, None, training=True, eps=0.0).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """
    found = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    channels = {name: None if t is None else as_tensor(t) for name, t in found.items()}
    x = as_tensor(input)
    floating("batch_norm", x=x, **channels)
    shape = x.shape
    if shape == (0,):  # PyTorch takes an empty array of one dim, too
        x = Tensor.operators["reshape"](x, (0, 0))
    _check(x, channels, bool(training))
    if x.ndim not in (2, 4):
        # channels-last in memory, as the kernels want it
        x = Tensor.operators["reshape"](x, (*x.shape[:2], 1, prod(x.shape[2:])))
    x = default_layout(x)
    inputs = [
        x,
        channels["weight"],
        channels["bias"],
        channels["running_mean"],
        channels["running_var"],
        None,
    ]
    cells: dict[str, CellLike] = {"eps": Cell.of(eps)}
    if training:
        moving = channels["running_mean"] is not None or channels["running_var"] is not None
        if moving:
            cells["momentum"] = Cell.of(momentum)
        y = apply(batch_norm_moving if moving else batch_norm_still, *inputs, cells=cells)[0]
    else:
        y = apply(batch_norm_evaluation, *inputs, cells=cells)
    return y if y.shape == shape else Tensor.operators["reshape"](y, shape)
