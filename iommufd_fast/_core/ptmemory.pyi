# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from typing_extensions import Buffer

_Memory: TypeAlias = (
    Callable[[int], int | None] | Buffer | Mapping[int, Buffer] | tuple[Buffer, int] | Iterable[tuple[Buffer, int]]
)

class Call:  # a reader that is a callable; made by ForeignMemory
    def __init__(self, function: Callable[[int], int | None]) -> None: ...

class ForeignMemory:
    def __init__(self, memory: _Memory) -> None: ...
