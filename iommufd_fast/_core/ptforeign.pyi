# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iommufd_fast._core.ptargs import Fault, Leaf
from iommufd_fast._core.ptcore import Table
from iommufd_fast._core.ptmemory import _Memory

class Step(NamedTuple):
    """One entry that a walk read: its level, its address, the entry (None when it could not be read)."""

    level: int
    entry: int
    item: int | None

ENOENT: int
ERANGE: int

class ForeignPageTable:
    def __init__(
        self,
        memory: _Memory,
        *,
        format: str,
        root: int,
        top_level: int | None = None,
        va_bits: int | None = None,
        oa_bits: int | None = None,
        through: Table | ForeignPageTable | None = None,
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
    @property
    def format(self) -> str: ...
    @property
    def root(self) -> int: ...
    @property
    def top_level(self) -> int: ...
    def lookup(self, iova: int) -> Leaf | Fault: ...
    def walk(self, iova: int) -> Leaf | None: ...
    def translate(self, iova: int) -> int | None: ...
    def translate_many(self, iovas: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]: ...
    def scan(self, start: int = 0, last: int = ...) -> Iterator[Leaf | Fault]: ...
    def leaves(self, start: int = 0, last: int = ...) -> Iterator[Leaf]: ...
    def _repr_svg_(self) -> str | None: ...
    def path(self, iova: int) -> list[Step]: ...
