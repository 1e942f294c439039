"""The files of known data sets: where they are looked for, what they hold, and how a damaged one is found out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PACKING = ("", ".gz", ".xz")


@dataclass(frozen=True)
class Original:
    """A file as it was published, unpacked."""

    size: int  # bytes
    sha256: str
    first: str = (
        ""  # sha256 of the first `Source.record` bytes, where the format has no header that tells the size
    )


@dataclass(frozen=True)
class Source:
    """A data set of known files."""

    name: str
    folders: tuple[str, ...]  # below the root, where the files may lie
    origin: str  # where they were published
    files: Mapping[str, Original]
    record: int = 0
    reader: str = "cnnmath.data.read_idx"  # what reads other files of the format

    def find(
        self, root: str | os.PathLike[str] | None, wanted: Sequence[str] | None = None
    ) -> dict[str, Path]:
        """The path of each file, all in one folder: that of `root`, or of CNNMATH_DATA where it is None.

        `wanted`: some of the files, all if None. FileNotFoundError names the files, the folders that were searched and
        the origin.
        """
        stems = list(self.files) if wanted is None else wanted
        files = f"the files {', '.join(stems)} (plain, .gz or .xz)"
        if root is None:
            root = os.environ.get("CNNMATH_DATA")
            if not root:
                raise FileNotFoundError(
                    f"{self.name}: no data folder. Give root=... (on the command line --root), or set "
                    f"CNNMATH_DATA to the folder that holds {self.folders[0]}/ with {files}. {self._published()}"
                )
        base = Path(root).expanduser()
        if not base.is_dir():
            what = f"{base} is a file" if base.exists() else f"the folder {base} does not exist"
            raise FileNotFoundError(
                f"{self.name}: {what}. Expected a folder that holds {self.folders[0]}/ with {files}. "
                f"{self._published()}"
            )
        folders = [f for f in (*(base / name for name in self.folders), base) if f.is_dir()]
        found = [{stem: path for stem in stems if (path := _packed(f, stem))} for f in folders]
        best = max(range(len(folders)), key=lambda i: len(found[i]))  # the first of the fullest ones
        missing = [stem for stem in stems if stem not in found[best]]
        if missing:
            raise FileNotFoundError(
                f"{self.name}: {', '.join(missing)} not found (plain, .gz or .xz). "
                f"Searched: {', '.join(map(str, folders))}. {self._published()}"
            )
        return found[best]

    def check(self, stem: str, path: Path, content: bytes | bytearray) -> None:
        """ValueError where a file looks like the original of `stem` and is not, or is another original.

        What neither has the original's size nor begins like it is somebody's own data in the same format.
        """
        expected, found = self.files[stem], _sha256(content)
        if found == expected.sha256:
            return
        other = next((name for name, file in self.files.items() if file.sha256 == found), None)
        if other:
            raise ValueError(f"{path}: expected {stem} of {self.name}, got the contents of {other}")
        first = _sha256(memoryview(content)[: self.record]) if self.record else None
        if len(content) == expected.size or any(first == file.first for file in self.files.values()):
            raise ValueError(
                f"{path}: damaged, or other data. Expected {stem} of {self.name}, {expected.size} bytes with sha256 "
                f"{expected.sha256}, got {len(content)} bytes with {found}. {self._published()} "
                f"{self.reader} reads other files of this format."
            )

    def _published(self) -> str:
        return f"The originals: {self.origin}"


def _packed(folder: Path, stem: str) -> Path | None:
    """The file of that name, packed or not."""
    paths = (folder / (stem + suffix) for suffix in _PACKING)
    return next((path for path in paths if path.is_file()), None)


def _sha256(content: bytes | bytearray | memoryview) -> str:
    import hashlib

    return hashlib.sha256(content, usedforsecurity=False).hexdigest()


def _mnist_files(digests: str) -> dict[str, Original]:
    sizes = {
        "train-images-idx3-ubyte": 16 + 60000 * 28 * 28,
        "train-labels-idx1-ubyte": 8 + 60000,
        "t10k-images-idx3-ubyte": 16 + 10000 * 28 * 28,
        "t10k-labels-idx1-ubyte": 8 + 10000,
    }
    return {stem: Original(size, digest) for (stem, size), digest in zip(sizes.items(), digests.split())}


MNIST = Source(
    "mnist",
    ("mnist", "MNIST/raw"),  # the second is torchvision's
    "http://yann.lecun.com/exdb/mnist/ (also at https://ossci-datasets.s3.amazonaws.com/mnist/)",
    _mnist_files(
        """
        ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
        65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
        0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
        ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
        """
    ),
)

FASHION_MNIST = Source(
    "fashion-mnist",
    ("fashion-mnist", "FashionMNIST/raw"),
    "https://github.com/zalandoresearch/fashion-mnist",
    _mnist_files(
        """
        c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888
        bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9
        5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b
        0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34
        """
    ),
)

CIFAR10 = Source(
    "cifar-10",
    ("cifar-10", "cifar-10-batches-bin", "cifar-10/cifar-10-batches-bin"),
    "https://www.cs.toronto.edu/~kriz/cifar.html (the binary version)",
    {
        "data_batch_1.bin": Original(
            10000 * 3073,
            "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "945dc5584f8efcf7dc58367c3b072c0a23dacc05ae824d7c77a33874a8ec83c7",
        ),
        "data_batch_2.bin": Original(
            10000 * 3073,
            "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "c9e321f0441959be2709a6c7bf54874de341ddf5c2acf15858390374ac85d8b2",
        ),
        "data_batch_3.bin": Original(
            10000 * 3073,
            "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "963cfaf58476b4f99b3ec0e3cd4361ef56d29063d88ed04c96c4fc08b4f53c3f",
        ),
        "data_batch_4.bin": Original(
            10000 * 3073,
            "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "7411e35eaccfc506fcd190919f98696aeee45e4fe9e7c63f39f0053e13013c01",
        ),
        "data_batch_5.bin": Original(
            10000 * 3073,
            "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "d4855d8824861490628020754137627c348b423b48438a49d9e40aeb23ad2819",
        ),
        "test_batch.bin": Original(
            10000 * 3073,
            "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            "35ce668430e638d9f487715a81e2051fc1b8ca1263461ce72179c29bfdbc1ee8",
        ),
    },
    record=3073,
    reader="cnnmath.data.read_cifar",
)
