"""Dropout (Srivastava et al., 2014), and a counter-based generator for its masks.

The mask is an argument: 1 where an element is kept, 0 where it is dropped. The generator is Philox4x32-10
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): a function of a counter and a key, with
no state, so that element i has the same number whoever computes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Words = npt.NDArray[np.uint32]


def dropout(x: Array, mask: Array, p: float = 0.5) -> Array:
    """y = x · mask / (1 − p): what is kept grows by so much that the mean stays. 0 everywhere for p = 1."""
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return np.asarray(x * (mask * x.dtype.type(scale)))


def dropout_backward(grad: Array, mask: Array, p: float = 0.5) -> Array:
    """dL/dx = grad · mask / (1 − p)"""
    return dropout(grad, mask, p)


def philox4x32(counter: Words, key: Words, rounds: int = 10) -> Words:
    """Four random words for each counter: counter (..., 4) and key (..., 2) of uint32 give (..., 4).

    One round, with high and low the halves of a 64-bit product:

        (c0, c1, c2, c3) ← (high(M1 c2) ⊕ c1 ⊕ k0, low(M1 c2), high(M0 c0) ⊕ c3 ⊕ k1, low(M0 c0))

    and between rounds k0 grows by the golden ratio, k1 by √3 − 1, both as fractions of 2³².
    """
    mask = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, np.uint64), -1, 0)
    for _ in range(rounds):
        product0, product1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        high0, high1 = product0 >> np.uint64(32), product1 >> np.uint64(32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, product1 & mask, high0 ^ c3 ^ k1, product0 & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), -1).astype(np.uint32)
