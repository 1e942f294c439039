"""Image files, read with Pillow, which is an extra: `pip install "cnnmath[images]"`."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np


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

    What the file says about the camera's orientation is heeded; transparent parts are black.

    Args:
        path: the file, in any format that Pillow reads.
        channels: 1 for grey, 3 for colours; the image is converted.
        size: (height, width), to which the image is resized; None keeps its own.

    Raises FileNotFoundError, ValueError where the file is no image or damaged, ImportError without Pillow.
    """
    if channels not in (1, 3):
        raise ValueError(f"read_image: channels expects 1 or 3, got {channels}")
    image_module, operations = pillow("Image"), pillow("ImageOps")
    with open(path, "rb") as file:
        try:
            image = operations.exif_transpose(image_module.open(file))
            image = _converted(image_module, image, channels)
        except Exception as error:  # on damaged files Pillow's readers raise almost anything
            reason = (
                "its kind is unknown" if isinstance(error, image_module.UnidentifiedImageError) else error
            )
            raise ValueError(f"{os.fspath(path)}: cannot be read as an image ({reason})") from error
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), image_module.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32)
    if channels == 3:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(255)
    return pixels[None] / np.float32(255)


def _converted(image_module: Any, image: Any, channels: int) -> Any:
    """The image in 8 bits, grey or in colours."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        wide = np.asarray(image).astype(np.float64)
        image = image_module.fromarray(np.clip(np.rint(wide / 257), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = image_module.new("RGBA", image.size, (0, 0, 0, 255))
        image = image_module.alpha_composite(black, image)
    return image.convert("L" if channels == 1 else "RGB")
