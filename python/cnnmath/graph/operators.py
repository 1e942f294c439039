"""The operators + - * / of tensors and variables: the ops of cnnmath.functional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


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

    def __neg__(self) -> Any:
        return self.operators["neg"](self)
