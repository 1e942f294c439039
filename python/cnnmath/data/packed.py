"""Files that may be packed with gzip or xz."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file to read, unpacked on the way by its suffix (.gz, .xz); ValueError where that fails."""
    import gzip
    import lzma
    import zlib

    def unpacker() -> IO[bytes]:
        if path.suffix == ".gz":
            return cast(IO[bytes], gzip.GzipFile(path))
        if path.suffix == ".xz":
            return cast(IO[bytes], lzma.LZMAFile(path, format=lzma.FORMAT_XZ))
        return path.open("rb")

    try:
        with unpacker() as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path}: cannot be unpacked ({error})") from error


def read(file: IO[bytes], most: int | None = None) -> bytearray:
    """The rest of a file, or its next `most` bytes if it has them.

    In pieces: a header may promise more than there is memory for, and than the file has.
    """
    piece = 1 << 20
    content = bytearray()
    while most is None or len(content) < most:
        part = file.read(piece if most is None else min(piece, most - len(content)))
        if not part:
            break
        content += part
    return content
