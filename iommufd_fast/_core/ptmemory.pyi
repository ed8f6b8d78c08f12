# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from numpy.typing import NDArray
from typing_extensions import Buffer

Bytes: TypeAlias = Buffer | NDArray[Any]
Memory: TypeAlias = (
    Callable[[int], int | None] | Bytes | Mapping[int, Bytes] | tuple[Bytes, int] | Iterable[tuple[Bytes, int]]
)

class ForeignMemory:
    def __init__(self, memory: Memory) -> None: ...
