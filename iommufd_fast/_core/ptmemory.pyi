# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from numpy.typing import NDArray
from typing_extensions import Buffer

_Bytes: TypeAlias = Buffer | NDArray[Any]
_Memory: TypeAlias = (
    Callable[[int], int | None] | _Bytes | Mapping[int, _Bytes] | tuple[_Bytes, int] | Iterable[tuple[_Bytes, int]]
)

class Call:  # one use of a callable; made by ForeignMemory
    def __init__(self, function: Callable[[int], int | None]) -> None: ...

class ForeignMemory:
    def __init__(self, memory: _Memory) -> None: ...
