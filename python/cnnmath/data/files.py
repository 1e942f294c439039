"""Image files, read with Pillow, which is an extra: `pip install "cnnmath[images]"`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..nn.weighted import pair
from .images import scaled


def pillow(module: str) -> Any:
    """A module of Pillow; ImportError that names the extra where it is missing."""
    try:
        return import_module(f"PIL.{module}")
    except ImportError as error:
        raise ImportError('image files need Pillow: pip install "cnnmath[images]"') from error


def read_image(
    path: str | os.PathLike[str], channels: int = 3, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The pixels of an image file: float32, (channels, height, width), 0 to 1.

    What the file says about the camera's orientation is heeded; transparent parts are white, or black where what is
    not transparent is rather bright than dark.

    Args:
        path: the file, in any format that Pillow reads.
        channels: 1 for grey, 3 for colours; the image is converted.
        size: (height, width), to which the image is resized; None keeps its own.

    Raises FileNotFoundError, ValueError where the file is no image or damaged, ImportError without Pillow.
    """
    if channels not in (1, 3):
        raise ValueError(f"read_image: channels expects 1 or 3, got {channels}")
    image_module, operations = pillow("Image"), pillow("ImageOps")
    with _opened(path) as image:
        image = _converted(image_module, operations.exif_transpose(image), channels)
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), image_module.Resampling.BILINEAR)
    pixels = np.asarray(image)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)) if channels == 3 else pixels[None]
    return scaled(planes, 255, np.float32)


def image_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """(channels, height, width) of an image file as it shows: 1 channel for grey, 3 for colours.

    Only its header is read. Raises as `read_image` does.
    """
    with _opened(path) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION, 1) >= 5:  # lies on its side
            width, height = height, width
    grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    return 1 if grey else 3, height, width


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An image of Pillow; ValueError where the file is none, or what is done with it shows that it is damaged."""
    image_module = pillow("Image")
    with open(path, "rb") as file:
        try:
            yield image_module.open(file)
        except Exception as error:  # on damaged files Pillow's readers raise almost anything
            reason: Any = error
            if isinstance(error, image_module.UnidentifiedImageError):
                reason = "its kind is unknown" if os.fstat(file.fileno()).st_size else "it is empty"
            raise ValueError(f"{os.fspath(path)}: cannot be read as an image ({reason})") from error


def _converted(image_module: Any, image: Any, channels: int) -> Any:
    """The image in 8 bits, grey or in colours."""
    if image.mode == "F":  # Pillow would clip it to 0 to 255, and make black what is of 0 to 1
        raise ValueError("its pixels are floating-point numbers of an unknown range")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        wide = np.asarray(image).astype(np.float64)
        image = image_module.fromarray(np.clip(np.rint(wide / 257), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        luma, alpha = (np.asarray(part, np.float64) for part in (image.convert("L"), image.getchannel("A")))
        ground = 0 if (luma * alpha).sum() > 127.5 * alpha.sum() else 255
        behind = image_module.new("RGBA", image.size, (ground, ground, ground, 255))
        image = image_module.alpha_composite(behind, image)
    return image.convert("L" if channels == 1 else "RGB")


_ORIENTATION = 0x0112
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageFolder:
    """Image files in one folder for each class, `root/cat/1.png`, `root/dog/a/2.jpg`; read when they are asked for.

    Give it to a `DataLoader`, or `load()` all of it. It needs Pillow, the extra `images`.

    Args:
        root: the folder of the classes' folders. Their names in alphabetical order are the classes.
        transform: a function of the image, an array (channels, height, width) of 0 to 1, that gives another one.
        size: the side or (height, width) that all images are resized to; None keeps their own.
        channels: 3 for colours, 1 for grey.

    Attributes:
        classes: the names of the classes.
        class_to_idx: the number of each class.
        samples: (path, class) of each image; `targets` has the classes alone.

    Raises FileNotFoundError where there is no folder of a class, or none of its images.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
        *,
        size: int | tuple[int, int] | None = None,
        channels: int = 3,
    ) -> None:
        if transform is not None and not callable(transform):
            raise TypeError(
                f"ImageFolder: expected a function as transform, got {transform!r}; size= goes by name"
            )
        if size is not None:
            size = pair("ImageFolder", "size", size, 1)
        where = Path(root).expanduser()
        if not where.is_dir():
            what = (
                f"{where} is a file, not a folder" if where.exists() else f"the folder {where} does not exist"
            )
            raise FileNotFoundError(f"ImageFolder: {what}")
        self.root = where
        self.transform = transform
        self.size = size
        self.channels = channels
        self.classes = sorted(p.name for p in where.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not self.classes:
            raise FileNotFoundError(f"ImageFolder: {where} has no folders, one for each class")
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples: list[tuple[Path, int]] = []
        for name, number in self.class_to_idx.items():
            paths = sorted(
                p for p in (where / name).rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file()
            )
            if not paths:
                raise FileNotFoundError(f"ImageFolder: {where / name} has no images ({', '.join(_SUFFIXES)})")
            self.samples += [(path, number) for path in paths]

    @property
    def targets(self) -> list[int]:
        return [number for _, number in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """(image, class): float32, (channels, height, width)."""
        path, number = self.samples[index]
        image = read_image(path, self.channels, self.size)
        return (image if self.transform is None else self.transform(image)), number

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """All images, (n, channels, height, width), channels-last in memory, and their classes, int64 (n,).

        Raises ValueError where they differ in shape.
        """
        order = (1, 2, 0)  # channels last
        images: np.ndarray | None = None
        for i, (path, _) in enumerate(self.samples):
            image = self[i][0]
            if image.ndim != 3:
                raise ValueError(f"{path}: expected a transform to images of three dims, got {image.ndim}")
            image = image.transpose(order)
            if images is None:
                images = np.empty((len(self), *image.shape), image.dtype)
            elif image.shape != images.shape[1:]:
                one, other = (tuple(np.array(s)[[2, 0, 1]].tolist()) for s in (images.shape[1:], image.shape))
                raise ValueError(
                    f"{path}: expected images of one shape, got {other} after {one}; ImageFolder(size=...) resizes"
                )
            images[i] = image
        assert images is not None  # a folder without images is refused
        return images.transpose(0, 3, 1, 2), np.array(self.targets, np.int64)

    def __repr__(self) -> str:
        return f"ImageFolder({self.root}, {len(self)} images, {len(self.classes)} classes)"
