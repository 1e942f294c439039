"""The handwritten digits that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .images import Images, scaled


class Digits(Images):
    """1,797 handwritten digits, and their customary division.

    Every fifth image (index % 5 == 0: 360 of them) is for the test, the other 1,437 are for training.
    """

    @property
    def DESCR(self) -> str:
        return Path(__file__).with_name("digits.LICENSE.txt").read_text(encoding="utf-8")

    def split(self) -> tuple[Images, Images]:
        """(training part, test part); the test part is every fifth image."""
        test = np.arange(len(self.target)) % 5 == 0
        return Images(self.images[~test], self.target[~test]), Images(self.images[test], self.target[test])


def load_digits(*, dtype: Any = np.float32) -> Digits:
    """Handwritten digits, 1,797 images of 8 x 8 pixels in 10 classes; no file and no network needed.

    They are those of scikit-learn's `load_digits`, in the same order: E. Alpaydin and C. Kaynak (1998), Optical
    Recognition of Handwritten Digits, UCI Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0.

    Args:
        dtype: float32 or float64 for pixels of 0 to 1 (the file's 0 to 16, divided by 16), uint8 for 0 to 16.

    Returns:
        Digits, which unpacks into images, (1797, 1, 8, 8), and target, int64 (1797,); `.data` is (1797, 64) as in
        scikit-learn, `.split()` the division into training and test part.

    >>> import cnnmath
    >>> x, y = cnnmath.data.load_digits()
    >>> x.shape, y.shape
    ((1797, 1, 8, 8), (1797,))
    >>> (x_train, y_train), (x_test, y_test) = cnnmath.data.load_digits().split()
    >>> len(x_train), len(x_test)
    (1437, 360)
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        pixels, target = file["images"], file["target"]
    return Digits(scaled(pixels[:, None], 16, dtype), target.astype(np.int64))
