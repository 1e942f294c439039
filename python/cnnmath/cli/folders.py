"""Folders of images as data of the command line: their parts, and the size and colours to read them in.

ROOT/cat/1.png, ROOT/dog/2.jpg                  every fifth image of a class is kept for the test
ROOT/train/cat/1.png, ROOT/test/cat/2.png       the test part has a folder of its own: test, val, valid, validation
"""

from __future__ import annotations

import copy
from pathlib import Path

from ..data.files import ImageFolder, image_shape
from ..data.images import Images

_TEST_NAMES = ("test", "val", "valid", "validation")
_LARGEST = 64  # side of images that are read as they are, unless another one is asked for

Shape = tuple[int, int, int]  # channels, height, width


class ImageFiles(Images):
    """Images of a folder.

    Attributes:
        files: the name of each image's file.
    """

    files: list[str]


def parts(root: Path) -> tuple[ImageFolder, ImageFolder]:
    """(training part, test part) of a folder, not read yet."""
    if not root.is_dir():
        what = f"{root} is a file, not a folder" if root.exists() else f"the folder {root} does not exist"
        raise FileNotFoundError(f"{what}; --root says where it is now")
    inside = {p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")}
    name = next((n for n in _TEST_NAMES if n in inside), None)
    if "train" not in inside or (name is None and len(inside) > 1):
        return _fifths(ImageFolder(root))
    train = ImageFolder(root / "train")
    if name is None:
        return _fifths(train)
    test = ImageFolder(root / name)
    _renumber(test, train.classes)
    return train, test


def _fifths(folder: ImageFolder) -> tuple[ImageFolder, ImageFolder]:
    """The fifth, tenth, ... image of each class apart from the others."""
    train, test = copy.copy(folder), copy.copy(folder)
    train.samples, test.samples = [], []
    seen = [0] * len(folder.classes)
    for path, number in folder.samples:
        seen[number] += 1
        (train if seen[number] % 5 else test).samples.append((path, number))
    if not test.samples:
        raise ValueError(
            f"{folder.root}: no class has five images, of which one could be kept for the test; "
            "put the images for it into folders test/CLASS beside train/CLASS"
        )
    return train, test


def _renumber(folder: ImageFolder, classes: list[str]) -> None:
    """Numbers the classes of a folder as these are."""
    unknown = [name for name in folder.classes if name not in classes]
    if unknown:
        raise ValueError(
            f"{folder.root}: expected the classes {', '.join(classes)}, got also {', '.join(unknown)}"
        )
    folder.samples = [(path, classes.index(folder.classes[number])) for path, number in folder.samples]
    folder.classes = classes


def shape_of(folder: ImageFolder, channels: int | None, size: tuple[int, int] | None) -> Shape:
    """What the images are read as, where nothing else is asked for: grey if all are; in their own size if all have the
    same and it is not large."""
    if channels is not None and size is not None:
        return channels, *size
    shapes = {image_shape(path) for path, _ in folder.samples}
    if channels is None:
        channels = max(c for c, _, _ in shapes)
    if size is None:
        sizes = {(height, width) for _, height, width in shapes}
        size = sizes.pop()
        if sizes or max(size) > _LARGEST:
            size = (_LARGEST, _LARGEST)
    return channels, *size


def images(folder: ImageFolder, shape: Shape) -> Images:
    """All images of a part."""
    folder.channels, folder.size = shape[0], shape[1:]
    found = ImageFiles(*folder.load())
    found.files = [path.name for path, _ in folder.samples]
    return found


def test_part(root: Path, shape: Shape, classes: list[str]) -> Images:
    """The test part, its classes numbered as those of a run."""
    _, test = parts(root)
    _renumber(test, classes)
    return images(test, shape)
