"""Limits on gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any

import numpy as np

from ..graph.ir import Node, Op, Spec, Tensor, apply
from ..graph.variable import logical
from ..planner.lowering import Lowering


def clip_grad_norm(
    grads: MutableMapping[str, np.ndarray] | Iterable[np.ndarray],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scales gradients, in place, so that their norm taken together is at most `max_norm` (Pascanu et al., 2013).

    g <- g min(1, max_norm / (norm + 1e-6)) with norm = (sum over all |g_i|^p)^(1/p), summed in float64.

    Args:
        grads: a dict from names to arrays, as `value_and_grad` gives it, or a sequence of arrays.
        max_norm: the highest norm.
        norm_type: p; math.inf for the largest element.
        error_if_nonfinite: raise ValueError where the norm is NaN or infinite, instead of scaling by it.

    Returns:
        The norm before.

    >>> import numpy as np, cnnmath
    >>> grads = {"weight": np.array([3.0, 4.0])}
    >>> cnnmath.optim.clip_grad_norm(grads, 1.0)
    5.0
    >>> grads["weight"].round(4).tolist()
    [0.6, 0.8]
    """
    arrays: list[Any] = list(grads.values() if isinstance(grads, MutableMapping) else grads)
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm: expected max_norm >= 0, got {max_norm}")
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm: expected norm_type > 0, got {norm_type}")
    if math.isinf(norm_type):
        norm = float(np.max([np.max(np.abs(g), initial=0.0) for g in arrays], initial=0.0))
    elif norm_type == 2:
        norm = math.sqrt(sum(_sum_squares(g) for g in arrays))
    else:
        powers = (float(np.sum(np.abs(g).astype(np.float64) ** norm_type)) for g in arrays)
        norm = float(sum(powers) ** (1 / norm_type))
    if error_if_nonfinite and not math.isfinite(norm):
        raise ValueError(f"clip_grad_norm: the norm of the gradients is {norm}")
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # also for NaN, which spreads as in PyTorch
        for g in arrays:
            g *= g.dtype.type(factor)
    return norm


def _sum_squares(g: np.ndarray, block: int = 1 << 14) -> float:
    """Σ g² in float64, block by block in the order of memory: a block stays in the cache, and none is large."""
    flat = np.ravel(g, order="K")
    doubles = np.empty(min(block, flat.size))
    total = 0.0
    for start in range(0, flat.size, block):
        part = flat[start : start + block]
        squares = doubles[: part.size]
        np.copyto(squares, part)
        squares *= squares
        total += float(np.sum(squares))
    return total


class _ClipNorm(Op):
    """Gradients scaled by `clip_grad_norm`, on the program's own memory: the bits of the manual loop.

    Args:
        max_norm: gives the highest norm, at each run.
    """

    name = "clip_norm"
    python = True

    def __init__(self, max_norm: Callable[[], float]) -> None:
        self._max_norm = max_norm

    def infer(self, *grads: Tensor) -> tuple[Spec, ...]:
        return tuple(Spec(g.shape, g.dtype, g.order) for g in grads)

    def lower(self, low: Lowering, node: Node) -> None:
        # In place, but where a gradient is that of two parameters: it would be scaled twice.
        for g, out in zip(node.inputs, node.outputs):
            assert g is not None
            if node.inputs.count(g) > 1 or not low.share(out, g):
                low.copy(out, g)
        outs = [t for t in node.outputs if t.size]

        def run(raw: list[np.ndarray]) -> None:
            views = [
                logical(np.frombuffer(r, t.dtype, t.size).reshape([t.shape[d] for d in t.order]), t.order)
                for r, t in zip(raw, outs)
            ]
            clip_grad_norm(views, self._max_norm())

        low.python(run, outs)

    def flops(self, node: Node) -> int:
        return 3 * sum(t.size for t in node.outputs)


def clipped(grads: Sequence[Tensor], max_norm: Callable[[], float]) -> Sequence[Tensor]:
    """Gradients in a graph, scaled as `clip_grad_norm` does it; `max_norm` is asked at each run."""
    found = apply(_ClipNorm(max_norm), *grads)
    return found if isinstance(found, tuple) else (found,)
