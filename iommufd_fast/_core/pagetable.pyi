# SPDX-License-Identifier: Apache-2.0
import numpy as np
from numpy.typing import ArrayLike, NDArray

from iommufd_fast._core.ptargs import Fault, Leaf
from iommufd_fast._core.ptcore import Table
from iommufd_fast._core.ptforeign import ForeignPageTable
from iommufd_fast._core.ptinspect import InspectableTable, Stats
from iommufd_fast._core.ptmemory import _Memory

__all__ = ["Fault", "Leaf", "PageTable", "Stats"]

class PageTable(InspectableTable):
    def map(self, iova: int, address: int, length: int, prot: str | int = "rw") -> None: ...
    def unmap(self, iova: int, length: int) -> int: ...
    def map_many(self, iovas: ArrayLike, addresses: ArrayLike, lengths: ArrayLike, prot: str | int = "rw") -> None: ...
    def unmap_many(self, iovas: ArrayLike, lengths: ArrayLike) -> NDArray[np.uint64]: ...
    def walk(self, iova: int) -> Leaf | None: ...
    def translate(self, iova: int) -> int | None: ...
    def translate_many(self, iovas: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]: ...
    @staticmethod
    def over(
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
    ) -> ForeignPageTable: ...
