"""The DataLoader: batches of samples, in an order that the seed and the epoch alone decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..graph.variable import default_order, logical, physical
from ..planner.random import generator, shuffled
from .transforms import as_transform


def stacked(samples: Sequence[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of samples; ValueError where they differ in shape."""
    xs, ys = ([np.asarray(part) for part in column] for column in zip(*samples))
    for column, what in ((xs, "samples"), (ys, "targets")):
        shapes = {a.shape for a in column}
        if len(shapes) > 1:
            raise ValueError(
                f"DataLoader: expected {what} of one shape in a batch, got {', '.join(map(str, sorted(shapes)))}"
            )
    return np.stack(xs), np.stack(ys)


class DataLoader:
    """Batches (x, y) of a data set, anew for each loop over it; `Trainer.fit` and `evaluate` take it, too.

    The order of epoch e is a permutation by (seed, e), that of `Trainer.fit` with shuffling, on any machine.

    Args:
        dataset: a pair of arrays (x, y), or anything with `len()` whose items are pairs (sample, target), such as
            an `ImageFolder`.
        batch_size: samples of a batch.
        shuffle: whether each epoch has an order of its own.
        drop_last: whether a last batch with fewer samples is left out.
        seed: of the order and the transform; None for that of `cnnmath.manual_seed`.
        transform: of the samples, one of `cnnmath.data.transforms` or a function of a batch. The draws of sample i
            depend on the seed, the epoch and i alone.

    Attributes:
        epoch: how many loops were begun; assign to it to go on from elsewhere.

    >>> import numpy as np
    >>> from cnnmath.data import DataLoader
    >>> [y.tolist() for x, y in DataLoader((np.ones((5, 2)), np.arange(5)), batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        seed: int | None = None,
        transform: Any = None,
    ) -> None:
        if isinstance(dataset, np.ndarray) or isinstance(batch_size, (np.ndarray, list, tuple)):
            raise TypeError(
                "DataLoader: expected one data set, such as a pair of arrays: DataLoader((x, y), batch_size=...)"
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"DataLoader: batch_size expects an int of at least 1, got {batch_size!r}")
        self._arrays: tuple[np.ndarray, np.ndarray] | None = None
        if isinstance(dataset, (tuple, list)) and len(dataset) == 2 and isinstance(dataset[0], np.ndarray):
            x, y = map(np.asarray, dataset)
            if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
                raise ValueError(
                    f"DataLoader: expected one target for each sample, got {x.shape} and {y.shape}"
                )
            self._arrays = x, y
        elif not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(
                f"DataLoader: expected arrays (x, y) or a data set with len() and items, "
                f"got {type(dataset).__name__}"
            )
        self.transform = None if transform is None else as_transform(transform, "DataLoader")
        if self._arrays is not None and self.transform is not None:
            # In the order of the kernels once: a transform gathers from there.
            x, y = self._arrays
            order = default_order(x.ndim)
            self._arrays = logical(physical(x, order), order), y
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0

    def _samples(self) -> int:
        return len(self.dataset if self._arrays is None else self._arrays[0])

    def __len__(self) -> int:
        """The number of batches."""
        whole, rest = divmod(self._samples(), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        count = self._samples()
        seed = generator.seed if self.seed is None else self.seed
        order = shuffled(count, seed, epoch) if self.shuffle else np.arange(count)
        batches = [order[i * self.batch_size :][: self.batch_size] for i in range(len(self))]
        return self._batches(batches, (seed & (2**64 - 1), epoch))

    def _batches(
        self, batches: list[np.ndarray], key: tuple[int, int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for which in batches:
            if self._arrays is None:
                x, y = stacked([self.dataset[int(i)] for i in which])
                if self.transform is not None:
                    x = self.transform.gather(x, None, key, which)
            else:
                x, y = self._arrays
                x = x[which] if self.transform is None else self.transform.gather(x, which, key)
                y = y[which]
            yield x, y

    def state_dict(self) -> dict[str, int]:
        """Where it stands, for checkpoints."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on from there."""
        self.epoch = int(state_dict["epoch"])

    def __repr__(self) -> str:
        return f"DataLoader({len(self)} batches of {self.batch_size}, shuffle={self.shuffle})"
