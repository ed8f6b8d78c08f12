# SPDX-License-Identifier: Apache-2.0
"""Arguments of the pinned-pages module: words, 64-bit integers and arrays of them, strictly."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    """One of some words, or ValueError."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it is one of {', '.join(map(repr, allowed))}")
    return value


def u64(name: str, value: Any) -> int:
    """An integer argument of 64 bits; nothing else is turned into one."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be an integer") from None
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{name} is {number}; allowed is 0 to 2^64-1")
    return number


def u64_array(name: str, value: Any) -> NDArray[np.uint64]:
    """One dimension of 64-bit unsigned integers, contiguous; copied only when it is something else."""
    array = np.asarray(value)
    if array.ndim != 1 or (array.dtype.kind not in "ui" and array.size):
        raise TypeError(f"{name} has shape {array.shape} and dtype {array.dtype}; it must be one dimension of integers")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise ValueError(f"{name} contains {array.min()}; slots start at 0")
    return np.ascontiguousarray(array, dtype=np.uint64)
