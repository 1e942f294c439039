"""Files that are there as a whole or not at all, whatever ends the process: an interruption, a full disk, a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file beside its place, waits until it is on the disk, and renames it: the one before stays until then.

    A process that is killed meanwhile leaves `.<name>.part`, which the next one to write this file takes over.
    Raises OSError that names the file.
    """
    beside = path.with_name(f".{path.name}.part")
    with _naming(path), _claimed(beside) as file:
        try:
            _write(file, content)
            os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        _sync_folder(path.parent)


def append_bytes(path: Path, content: bytes) -> None:
    """Adds to the end of a file: all of it, or nothing and an OSError that names the file."""
    with _naming(path), open(path, "ab", buffering=0) as file:
        before = file.tell()
        try:
            _write(file, content)
        except BaseException:
            file.truncate(before)
            raise


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """The system tells of a full disk, but not of which file, and of the file beside instead of the one meant."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def _claimed(beside: Path) -> Iterator[BinaryIO]:
    """A file of this name, empty, that no other process writes: they wait for each other by its lock.

    One that a killed process left is not locked, and is used again.
    """
    while True:
        with open(beside, "ab", buffering=0) as file:
            with contextlib.suppress(OSError):  # not every network file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                # Whoever had the lock may have renamed or removed the file since.
                ours = os.path.samestat(os.fstat(file.fileno()), os.stat(beside))
            except FileNotFoundError:
                ours = False
            if ours:
                file.truncate(0)
                yield file
                return


def _write(file: BinaryIO, content: bytes) -> None:
    # Without a buffer: what it could not write it would try again when the file is closed.
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _sync_folder(folder: Path) -> None:
    """Brings the new name to the disk, too."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems do that by themselves, and refuse to be asked
            os.fsync(number)
    finally:
        os.close(number)
