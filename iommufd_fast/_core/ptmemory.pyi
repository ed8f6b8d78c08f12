# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from typing_extensions import Buffer

Memory: TypeAlias = (
    Callable[[int], int | None] | Buffer | Mapping[int, Buffer] | tuple[Buffer, int] | Iterable[tuple[Buffer, int]]
)

class ForeignMemory:
    def __init__(self, memory: Memory) -> None: ...
