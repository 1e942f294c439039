"""Augmentation of images, with torchvision's names: random crops, mirror images; scaling and normalisation.

A transform works on arrays of images, (n, channels, height, width), or on one image without the n. `Trainer.fit` takes
one as `augment`, a `DataLoader` as `transform`. There the draws of image i in epoch e depend on the seed, e and i
alone: not on the threads, the size of the batches, their order, or what ran before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..graph.variable import default_order, logical, physical
from ..planner.random import current_generator
from .augment import MODES, augmented

Key = tuple[int, int]  # seed, epoch
_DTYPES = (np.float32, np.float64, np.uint8)


class Transform:
    """The base of transforms; `transform(images)` and `transform.gather(images, rows, key)`."""

    def _steps(self) -> Iterator[Any]:
        yield self

    def __call__(self, images: Any) -> np.ndarray:
        """The images transformed, each by draws of its own, which go on from `cnnmath.manual_seed`.

        Args:
            images: (n, channels, height, width), or one image (channels, height, width); float32, float64 or uint8.
        """
        images = np.asarray(images)
        if images.ndim == 3:
            result: np.ndarray = self(images[None])[0]
            return result
        random = any(isinstance(step, (RandomCrop, RandomHorizontalFlip)) for step in self._steps())
        key = current_generator().next_key() if random else (0, 0)
        return self.gather(images, None, key)

    def gather(
        self, images: Any, rows: np.ndarray | None, key: Key, numbers: np.ndarray | None = None
    ) -> np.ndarray:
        """The images of these rows, transformed; crop and mirror image are made while they are gathered.

        Args:
            images: (n, channels, height, width).
            rows: indices (m,), or None for all images as they lie.
            key: (seed, epoch) of the draws.
            numbers: by which the images draw, (m,); by default their rows.
        """
        images = np.asarray(images)
        if numbers is None:
            numbers = np.arange(len(images)) if rows is None else rows
        steps = list(enumerate(self._steps()))
        while steps:
            crop = steps.pop(0) if isinstance(steps[0][1], RandomCrop) else None
            mirror = steps.pop(0) if steps and isinstance(steps[0][1], RandomHorizontalFlip) else None
            table = None
            if images.dtype == np.uint8:
                pixelwise = []
                while steps and isinstance(steps[0][1], _Pixelwise):
                    pixelwise.append(steps.pop(0)[1])
                table = _table(pixelwise, images)
            if crop or mirror or table is not None:
                images = _augmented(images, rows, numbers, key, crop, mirror, table)
            else:
                images = steps.pop(0)[1](images if rows is None else taken(images, rows))
            rows = None
        return images if rows is None else taken(images, rows)


def _augmented(
    images: np.ndarray,
    rows: np.ndarray | None,
    numbers: np.ndarray,
    key: Key,
    crop: tuple[int, RandomCrop] | None,
    mirror: tuple[int, RandomHorizontalFlip] | None,
    table: np.ndarray | None,
) -> np.ndarray:
    """One pass over the batch: gather, crop, mirror, look up."""
    op = type(crop[1] if crop else mirror[1] if mirror else None).__name__
    if images.ndim != 4:
        raise ValueError(f"{op}: expected images (n, channels, height, width), got shape {images.shape}")
    if images.dtype not in _DTYPES:
        raise TypeError(f"{op}: expected images of float32, float64 or uint8, got {images.dtype}")
    size, padding = images.shape[2:], (0, 0, 0, 0)
    fill, mode = np.zeros(images.shape[1], images.dtype), MODES[0]
    if crop:
        size, padding, mode = crop[1].size, crop[1].padding, crop[1].padding_mode
        fill = crop[1].values(images)
    result = augmented(
        physical(images, default_order(4)),
        np.arange(len(images)) if rows is None else rows,
        numbers,
        key,
        size=size,
        padding=padding,
        mode=mode,
        fill=fill,
        p=mirror[1].p if mirror else 0.0,
        transforms=(crop[0] if crop else 0, mirror[0] if mirror else 0),
        table=table,
    )
    return logical(result, default_order(4))


def taken(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array, in its physical order."""
    order = default_order(images.ndim)
    return logical(np.take(physical(images, order), rows, axis=0), order)


def as_transform(transform: Any, owner: str) -> Transform:
    """A transform; also of any function of a batch of images."""
    if isinstance(transform, Transform):
        return transform
    if isinstance(transform, type) or not callable(transform):
        raise TypeError(f"{owner}: expected a transform, a function of images, got {transform!r}")
    return Compose([transform])


class Compose(Transform):
    """Transforms one after the other.

    A crop, a mirror image and, of uint8 images, what follows of ToDtype and Normalize are one pass over the batch.

    Args:
        transforms: those of this module, or functions of a batch of images (n, channels, height, width), which must
            leave its length.

    >>> import numpy as np
    >>> from cnnmath.data import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToDtype
    >>> augment = Compose(
    ...     [RandomCrop(32, padding=4), RandomHorizontalFlip(), ToDtype(np.float32, scale=True), Normalize(0.5, 0.2)]
    ... )
    >>> y = augment(np.full((8, 3, 32, 32), 255, np.uint8))
    >>> y.shape, y.dtype.name, round(float(y.max()), 4)
    ((8, 3, 32, 32), 'float32', 2.5)
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = list(transforms)
        for transform in self.transforms:
            if isinstance(transform, type) or not callable(transform):
                raise TypeError(f"Compose: expected transforms, functions of images, got {transform!r}")

    def _steps(self) -> Iterator[Any]:
        for transform in self.transforms:
            if isinstance(transform, Transform):
                yield from transform._steps()
            else:
                yield transform

    def __repr__(self) -> str:
        return f"Compose({self.transforms!r})"


class RandomCrop(Transform):
    """Images get a border and are cut to `size` at a random offset, each offset as likely as the others.

    With `size` the size of the images, they are shifted by up to `padding` pixels.

    Args:
        size: the side of the result, or (height, width).
        padding: pixels on each side; or (left and right, top and bottom), or (left, top, right, bottom).
        fill: the value of a constant border, or one of each channel.
        padding_mode: "constant", "edge" (the border repeats the last pixel), "reflect" (without that pixel),
            "symmetric" (with it).

    The offset is (⌊W0 (H + 1 - h) / 2³²⌋, ⌊W1 (W + 1 - w) / 2³²⌋) with the random words W of the image, see
    `cnnmath.reference.augmentation_words`; H x W is the size with the padding.

    >>> import numpy as np
    >>> from cnnmath.data import RandomCrop
    >>> RandomCrop(24)(np.zeros((5, 3, 32, 32), np.float32)).shape
    (5, 3, 24, 24)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        *,
        fill: float | Sequence[float] = 0,
        padding_mode: str = "constant",
    ) -> None:
        sizes = _whole("size", size, 1, (1, 2))
        self.size = (sizes[0], sizes[-1])
        borders = _whole("padding", 0 if padding is None else padding, 0, (1, 2, 4))
        left, top, right, bottom = borders * (4 // len(borders))
        self.padding = (left, right, top, bottom)
        if padding_mode not in MODES:
            raise ValueError(
                f"RandomCrop: expected padding_mode to be one of {', '.join(MODES)}, got {padding_mode!r}"
            )
        self.padding_mode = padding_mode
        self.fill = fill

    def values(self, images: np.ndarray) -> np.ndarray:
        """The fill of each channel, in the dtype of the images."""
        fill, channels = np.asarray(self.fill), images.shape[1]
        if fill.dtype.kind not in "iuf" or fill.shape not in ((), (1,), (channels,)):
            raise ValueError(
                f"RandomCrop: expected fill to be a number, or one for each of {channels} channels, got {self.fill!r}"
            )
        if images.dtype == np.uint8 and not np.all((fill >= 0) & (fill <= 255) & (fill == np.floor(fill))):
            raise ValueError(f"RandomCrop: expected fill from 0 to 255 for bytes, got {self.fill!r}")
        return np.broadcast_to(fill.astype(images.dtype), (channels,)).copy()

    def __repr__(self) -> str:
        left, right, top, bottom = self.padding
        return (
            f"RandomCrop({self.size}, padding=({left}, {top}, {right}, {bottom}), fill={self.fill}, "
            f"padding_mode={self.padding_mode!r})"
        )


class RandomHorizontalFlip(Transform):
    """Each image is mirrored, left to right, with probability p.

    >>> import numpy as np
    >>> from cnnmath.data import RandomHorizontalFlip
    >>> RandomHorizontalFlip(1)(np.array([[[1, 2, 3]]], np.float32)).tolist()
    [[[3.0, 2.0, 1.0]]]
    """

    def __init__(self, p: float = 0.5) -> None:
        if isinstance(p, bool) or not isinstance(p, (int, float, np.number)):
            raise TypeError(f"RandomHorizontalFlip: expected p to be a number, got {p!r}")
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: expected a probability between 0 and 1, got {p}")
        self.p = float(p)

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class _Pixelwise(Transform):
    """y = f(x) of each number and its channel: for bytes, a table of 256 values a channel."""

    def __call__(self, images: Any) -> np.ndarray:
        raise NotImplementedError


class ToDtype(_Pixelwise):
    """Images in another dtype.

    Args:
        dtype: float32, float64 or uint8.
        scale: whether uint8's 0 to 255 become 0 to 1 in floating point, and the other way round (rounded, what is
            beyond cut off).
    """

    def __init__(self, dtype: Any, scale: bool = False) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in _DTYPES:
            raise TypeError(f"ToDtype: expected float32, float64 or uint8, got {self.dtype}")
        self.scale = scale

    def __call__(self, images: Any) -> np.ndarray:
        x: np.ndarray = np.asarray(images)
        if not self.scale or (x.dtype == np.uint8) == (self.dtype == np.uint8):
            return x.astype(self.dtype)
        if self.dtype == np.uint8:
            whole: np.ndarray = np.clip(np.rint(x * 255), 0, 255)
            return whole.astype(np.uint8)
        result: np.ndarray = x.astype(self.dtype)
        result /= 255
        return result

    def __repr__(self) -> str:
        return f"ToDtype({self.dtype.name}, scale={self.scale})"


class Normalize(_Pixelwise):
    """y = (x - mean) / std, by channel.

    Args:
        mean, std: a number, or one for each channel; std not 0.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = (np.atleast_1d(np.asarray(v, np.float64)) for v in (mean, std))
        for name, v in (("mean", self.mean), ("std", self.std)):
            if v.ndim != 1 or not len(v) or not np.isfinite(v).all() or (name == "std" and not v.all()):
                raise ValueError(
                    f"Normalize: expected {name} to be {'not 0' if name == 'std' else 'finite'}, got {v}"
                )

    def __call__(self, images: Any) -> np.ndarray:
        x: np.ndarray = np.asarray(images)
        if x.dtype.kind != "f":
            raise TypeError(f"Normalize: expected images of floating point, got {x.dtype}; ToDtype before it")
        if x.ndim < 3 or any(len(v) not in (1, x.shape[-3]) for v in (self.mean, self.std)):
            raise ValueError(
                f"Normalize: expected images of {max(len(self.mean), len(self.std))} channels, "
                f"got shape {x.shape}"
            )
        result: np.ndarray = x - self.mean.astype(x.dtype)[:, None, None]
        result /= self.std.astype(x.dtype)[:, None, None]
        return result

    def __repr__(self) -> str:
        return f"Normalize({self.mean.tolist()}, {self.std.tolist()})"


def _table(pixelwise: list[_Pixelwise], images: np.ndarray) -> np.ndarray | None:
    """What these transforms make of each byte, (channels, 256); None where there are none."""
    if not pixelwise:
        return None
    channels = images.shape[1] if images.ndim == 4 else 1
    values = np.broadcast_to(np.arange(256, dtype=np.uint8), (channels, 1, 256))
    for transform in pixelwise:
        values = transform(values)
    return np.ascontiguousarray(values[:, 0])


def _whole(name: str, given: Any, least: int, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """A number or a few as a tuple of ints; ValueError where they are others."""
    values = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if len(values) not in lengths or not all(
        isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v >= least for v in values
    ):
        raise ValueError(
            f"RandomCrop: expected {name} to be {' or '.join(map(str, lengths))} whole numbers from {least}, "
            f"got {given!r}"
        )
    return tuple(map(int, values))


__all__ = ["Compose", "Normalize", "RandomCrop", "RandomHorizontalFlip", "ToDtype", "Transform"]
