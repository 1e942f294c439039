"""Batches: from arrays, brought once to the physical order of the kernels, or from an iterable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..data.loader import DataLoader
from ..data.transforms import Key, Transform
from ..graph.variable import default_order, logical, physical
from ..planner.random import shuffled as shuffled
from .weights import sample_weights

PREDICT_BATCH = 256  # samples computed at once where nothing is trained
Batch = tuple[np.ndarray, ...]  # x, y, and where there are any the weights of the samples


class Rows:
    """An array of samples, ready to gather batches from. Rank 4 is kept channels-last: a batch needs no reordering."""

    def __init__(self, array: Any, name: str) -> None:
        array = np.asarray(array)
        if array.ndim == 0:
            raise ValueError(f"{name}: expected an array with one row for each sample, got a single number")
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name}: expected an array of numbers, got dtype {array.dtype}")
        self.order = default_order(array.ndim)
        self.physical = physical(array, self.order)

    def __len__(self) -> int:
        return len(self.physical)

    def rows(self, which: slice | np.ndarray) -> np.ndarray:
        """Some rows: a view for a slice, else gathered."""
        if isinstance(which, slice):
            return logical(self.physical[which], self.order)
        found = np.empty((len(which), *self.physical.shape[1:]), self.physical.dtype)
        # "clip" writes straight to `out`; no index is out of range.
        np.take(self.physical, which, axis=0, out=found, mode="clip")
        return logical(found, self.order)


def checked_size(size: Any, name: str = "batch_size") -> int:
    """`size` as an int; ValueError where it is none, or below 1."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(f"{name}: expected an int of at least 1, got {size!r}")
    return int(size)


class ArrayBatches:
    """Batches of two arrays, or three.

    Args:
        x, y: the samples and their targets.
        batch_size: rows of a batch; the last one may have fewer.
        weights: of the samples, (n, ...), or None.
    """

    def __init__(self, x: Any, y: Any, batch_size: int, weights: Any = None) -> None:
        self.x, self.y = Rows(x, "x"), Rows(y, "y")
        self.batch_size = checked_size(batch_size)
        if len(self.x) != len(self.y):
            raise ValueError(
                f"expected one target for each sample, got {len(self.x)} in x and {len(self.y)} in y"
            )
        if len(self.x) == 0:
            raise ValueError("expected at least one sample, got none")
        parts = [self.x, self.y]
        if weights is not None:
            parts.append(Rows(sample_weights(weights, len(self.x)), "sample_weight"))
        self._parts = parts

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    @property
    def count(self) -> int:
        return len(self)

    def __iter__(self) -> Iterator[Batch]:
        return self.ordered(None)

    def first(self) -> Batch | None:
        """A batch to look at beforehand."""
        return next(iter(self))

    def ordered(
        self, order: np.ndarray | None, first: int = 0, augment: Transform | None = None, key: Key = (0, 0)
    ) -> Iterator[Batch]:
        """The batches of an epoch from number `first` on, in the order of these indices (None as they lie), augmented
        by draws of the key."""
        for start in range(first * self.batch_size, len(self.x), self.batch_size):
            stop = min(start + self.batch_size, len(self.x))
            which = slice(start, stop) if order is None else order[start:stop]
            if augment is None:
                yield tuple(part.rows(which) for part in self._parts)
            else:
                rows = np.arange(start, stop) if order is None else order[start:stop]
                x = augment.gather(logical(self.x.physical, self.x.order), rows, key)
                yield x, *(part.rows(which) for part in self._parts[1:])


class IterableBatches:
    """Batches that something else makes, such as a loader: anything that gives (x, y) or (x, y, weights), anew for
    each epoch."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches

    @property
    def count(self) -> int | None:
        try:
            return len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            return None

    def state_dict(self) -> Any:
        """Where the loader stands, if it tells."""
        found = getattr(self._batches, "state_dict", None)
        return found() if callable(found) else None

    def load_state_dict(self, state: Any) -> None:
        if state is not None and hasattr(self._batches, "load_state_dict"):
            self._batches.load_state_dict(state)

    def first(self) -> Batch | None:
        """A batch to look at beforehand, of a list or of a DataLoader, which is set back; of others None."""
        if not isinstance(self._batches, (list, tuple, DataLoader)):
            return None
        before = self.state_dict()
        try:
            return next(iter(self), None)
        finally:
            self.load_state_dict(before)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise TypeError(f"expected batches of two arrays (x, y), got {type(batch).__name__}")
            x, y = map(np.asarray, batch[:2])
            if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
                raise ValueError(
                    f"expected a batch with one target for each sample, got {x.shape} and {y.shape}"
                )
            yield (x, y) if len(batch) == 2 else (x, y, sample_weights(batch[2], len(x)))

    def augmented(self, augment: Transform, key: Key) -> Iterator[Batch]:
        """The batches of an epoch, augmented; samples are numbered as they come."""
        count = 0
        for x, *rest in self:
            yield augment.gather(x, None, key, np.arange(count, count + len(x))), *rest
            count += len(x)


def split(arrays: Sequence[Any], fraction: float) -> tuple[Batch, Batch]:
    """(training part, validation part): the last samples are for validation, before any shuffling."""
    if not 0 < fraction < 1:
        raise ValueError(f"validation_split: expected a number between 0 and 1, got {fraction}")
    found = [np.asarray(a) for a in arrays]
    count = len(found[0])
    at = int(count * (1 - fraction))
    if at == 0 or at == count:
        raise ValueError(f"validation_split: {fraction} of {count} samples leaves one part empty")
    return tuple(a[:at] for a in found), tuple(a[at:] for a in found)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Errors of shapes and dtypes that arise inside say where they come from."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) in (TypeError, ValueError):  # others may not be made of a text
            error.args = (f"{what}: {error}",)
        raise


def iterable(batches: Any, op: str) -> IterableBatches:
    if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable):
        raise TypeError(f"{op}: expected arrays x and y, or an iterable of batches (x, y) alone")
    return IterableBatches(batches)


def batches_of(x: Any, y: Any, batch_size: int, weights: Any, op: str) -> ArrayBatches | IterableBatches:
    if y is not None:
        return ArrayBatches(x, y, batch_size, weights)
    if weights is not None:
        raise ValueError(f"{op}: an iterable gives weights as third arrays of its batches, not sample_weight")
    return iterable(x, op)


def validation_of(data: Any, batch_size: int) -> ArrayBatches | IterableBatches:
    # A list may be one of batches.
    arrays = isinstance(data, list) and all(isinstance(part, np.ndarray) for part in data)
    if (arrays or isinstance(data, tuple)) and len(data) in (2, 3):
        x, y, weights = (*data, None)[:3]
        with naming("validation_data"):
            return ArrayBatches(x, y, max(batch_size, PREDICT_BATCH), weights)
    return iterable(data, "fit: validation_data")
