# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Buffer

from iommufd_fast._core.ptargs import Leaf

_Memory: TypeAlias = (
    Callable[[int], int | None] | Mapping[int, Buffer] | tuple[Buffer, int] | Iterable[tuple[Buffer, int]]
)

ENOENT: int
ERANGE: int

class Call:  # one walk's reader; made by ForeignPageTable
    def __init__(self, *args: object) -> None: ...

class ForeignPageTable:
    def __init__(
        self,
        memory: _Memory,
        *,
        format: str,
        root: int,
        top_level: int,
        va_bits: int | None = None,
        oa_bits: int | None = None,
        granule: int | None = None,
        force_coherent: bool = False,
        force_writeable: bool = False,
        growing_top: bool = False,
        sign_extend: bool = False,
        napot: bool = False,
        pbmt: bool = False,
        hw_dirty: bool = False,
        contiguous: bool = False,
        force_write_back: bool = False,
    ) -> None: ...
    def walk(self, iova: int) -> Leaf | None: ...
    def translate(self, iova: int) -> int | None: ...
    def translate_many(self, iovas: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]: ...
