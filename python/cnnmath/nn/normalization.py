"""Batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..functional.counting import increment
from ..graph.ir import Cell, attribute
from .module import Module
from .parameter import Buffer, Parameter
from .weighted import whole


class _BatchNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, in each channel.

    In training mean and var are those of the batch, and the running ones follow them,

        running = (1 - momentum) * running + momentum * batch,

    with the unbiased variance. In evaluation, and when frozen, the running ones are used and stay as they are.

    Ioffe and Szegedy, Batch normalization: accelerating deep network training, 2015.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: as above; None stands for the mean over all batches so far, 1 / num_batches_tracked.
        affine: whether weight and bias are there.
        track_running_stats: whether running statistics are kept; without them those of the batch are always used.
        bias: whether bias is there, where weight is.
        dtype: float32 (the default) or float64.

    Attributes:
        weight, bias: (num_features,), at first 1 and 0.
        running_mean, running_var: (num_features,), at first 0 and 1.
        num_batches_tracked: int64, the number of updates of the running statistics.
    """

    _run_time = ("eps", "momentum")
    _optional_state = ("num_batches_tracked",)
    _ranks: tuple[int, ...] = ()

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        whole(type(self).__name__, 0, num_features=num_features)
        dtype = dtype or np.float32
        self.num_features = num_features
        self.eps = float(eps)
        self.momentum = None if momentum is None else float(momentum)
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (num_features,)
        self.register_parameter("weight", Parameter(np.ones(shape, dtype)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(shape, dtype)) if affine and bias else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(shape, dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(shape, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def reset_running_stats(self) -> None:
        """Sets the running statistics to those of no batch."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer[...] = value

    def reset_parameters(self) -> None:
        """Sets all to first values."""
        self.reset_running_stats()
        if self.weight is not None:
            self.weight[...] = 1
        if self.bias is not None:
            self.bias[...] = 0

    def forward(self, x: Any) -> Any:
        if x.ndim not in self._ranks:
            ranks = " or ".join(f"{rank}-d" for rank in self._ranks)
            raise ValueError(f"{type(self).__name__}: expected {ranks} input, got {x.ndim}-d (x: {x.shape})")
        learning = self.training and not self._frozen
        mean, var = self.running_mean, self.running_var
        if learning and not self.track_running_stats:
            mean = var = None
        return F.batch_norm(
            x,
            mean,
            var,
            self.weight,
            self.bias,
            training=learning or (mean is None and var is None),
            momentum=self._factor(learning),
            eps=attribute(self, "eps"),
        )

    def _factor(self, learning: bool) -> Any:
        """The cell of the weight of this batch in the running statistics; counts the batch."""
        counter = self.num_batches_tracked
        if not learning or not self.track_running_stats or counter is None:
            return 0.0 if self.momentum is None else attribute(self, "momentum")
        before = increment(counter)
        if self.momentum is not None:
            return attribute(self, "momentum")
        # Cells are read before the run, and so before it counts.
        return Cell(lambda: 1.0 / (int(counter.physical) + before + 1))

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    __doc__ = f"""Batch normalisation of (N, C) or (N, C, L).

    {_BatchNorm.__doc__}"""
    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = f"""Batch normalisation of (N, C, H, W).

    {_BatchNorm.__doc__}"""
    _ranks = (4,)
