"""The kernel of augmentation, called on physical arrays."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import _core
from ..planner.lowering import KERNEL_DTYPES

MODES = ("constant", "edge", "reflect", "symmetric")


@functools.lru_cache(maxsize=64)
def _program(name: str, dtype: str, args: int, params: tuple[int, ...]) -> Any:
    program = _core.Program(args)
    program.add(_core.find_kernel(name, dtype), params, [(slot, 0) for slot in range(args)], (-1, 0))
    return program


def augmented(
    x: np.ndarray,
    rows: np.ndarray,
    numbers: np.ndarray,
    key: tuple[int, int],
    *,
    size: tuple[int, int],
    padding: tuple[int, int, int, int],
    mode: str,
    fill: np.ndarray,
    p: float,
    transforms: tuple[int, int],
    table: np.ndarray | None,
) -> np.ndarray:
    """Rows of x, each cropped at an offset of its own and mirrored with probability p; cpp/kernels/augment/augment.h.

    Args:
        x: images (count, height, width, channels), contiguous; float32, float64 or uint8.
        rows: which images, (n,).
        numbers: by which they draw, (n,).
        key: (seed, epoch).
        size: (h, w) of the result.
        padding: (left, right, top, bottom).
        mode: one of MODES.
        fill: (channels,), of x's dtype.
        p: of a mirror image.
        transforms: the numbers under which crop and mirror draw.
        table: None, or (channels, 256): what each byte becomes; of float32, float64 or uint8.
    """
    count, height, width, channels = x.shape
    left, right, top, bottom = padding
    most = (height + top + bottom, width + left + right)
    if size[0] > most[0] or size[1] > most[1]:
        raise ValueError(
            f"RandomCrop: expected a size of at most {most}, that of the images with their padding, got {size}"
        )
    rows, numbers = (np.ascontiguousarray(a, np.int64) for a in (rows, numbers))
    if rows.ndim != 1 or numbers.shape != rows.shape:
        raise ValueError(
            f"gather: expected rows and numbers of one length, got shapes {rows.shape} and {numbers.shape}"
        )
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise IndexError(f"gather: expected rows from 0 to {count - 1}, got {rows.min()} to {rows.max()}")
    dtype = x.dtype if table is None else table.dtype
    y = np.empty((len(rows), *size, channels), dtype)
    params = (
        len(rows),
        height,
        width,
        channels,
        *size,
        top,
        bottom,
        left,
        right,
        MODES.index(mode),
        *transforms,
    )
    arrays = [np.array(key, np.uint64), np.array(p), x, rows, numbers, fill]
    if table is None:
        arrays.append(y)
        name = "augment"
    else:
        arrays += [table, y]
        name = "augment_table"
    _program(name, KERNEL_DTYPES[dtype.name], len(arrays), params).run(arrays)
    return y
