# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iommufd_fast._core.ptargs import Leaf
from iommufd_fast._core.ptcore import Table

class Stats(NamedTuple):
    """Leaves by size in bytes; linked tables; those without an entry; unused ones; bytes of all."""

    leaves: dict[int, int]
    tables: int
    empty_tables: int
    recycled_tables: int
    table_bytes: int

class InspectableTable(Table):
    def leaves(self, start: int = 0, last: int = ...) -> Iterator[Leaf]: ...
    def set_dirty(self, iova: int) -> None: ...
    def dirty(
        self, start: int, last: int, *, clear: bool = False, exact: bool = True
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]: ...
    def tables(self) -> list[tuple[int, int, NDArray[np.uint64]]]: ...
    def trim(self) -> None: ...
    def stats(self) -> Stats: ...
    def is_valid(self) -> bool: ...
