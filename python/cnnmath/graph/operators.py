"""The operators + - * / ** of tensors and variables: the ops of cnnmath.functional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np


class Arithmetic:
    """Gives a class Python's operators, on either side of an array, a number or one of its own kind."""

    __slots__ = ()

    # The ops register themselves here: the graph knows none.
    operators: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __add__(self, other: Any) -> Any:
        return self.operators["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return self.operators["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return self.operators["sub"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.operators["sub"](other, self)

    def __mul__(self, other: Any) -> Any:
        return self.operators["mul"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return self.operators["mul"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return self.operators["div"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.operators["div"](other, self)

    def __pow__(self, exponent: Any) -> Any:
        """Whole numbers from 1 on, by multiplication."""
        if isinstance(exponent, (int, np.integer)) or (type(exponent) is float and exponent.is_integer()):
            n = int(exponent)
            if 1 <= n <= 64 and not isinstance(exponent, bool):
                return self._power(n)
        if type(exponent) in (bool, int, float):
            raise TypeError(
                f"**: expected a whole number from 1 to 64, got {exponent!r}; other powers are a cnnmath.Function"
            )
        return NotImplemented

    def _power(self, n: int) -> Any:
        if n == 1:
            return self.operators["mul"](self, 1.0)
        half = self if n // 2 == 1 else self._power(n // 2)
        square = self.operators["mul"](half, half)
        return self.operators["mul"](square, self) if n % 2 else square

    def __neg__(self) -> Any:
        return self.operators["neg"](self)
