# SPDX-License-Identifier: Apache-2.0
"""Hardware page tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from iommufd_fast._core import batch, machines
from iommufd_fast.errors import check
from iommufd_fast.objects import ContextObject, dirty_tracking, invalidate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from iommufd_fast.faults import FaultQueue
    from iommufd_fast.guest import GuestData
    from iommufd_fast.ioas import Ioas
    from iommufd_fast.records import LeafInfo
    from iommufd_fast.viommu import Viommu

    Invalidation = int | GuestData | Iterable[GuestData]

LAST = 2**64 - 1
_PROTS = ("", "r", "w", "rw")
_ROOM = 4096  # ranges in one call
_MOST_BITS = 1 << 40


@dataclass(frozen=True, slots=True)
class HwptStats:
    """Counters of a page table. `leaves`: how many entries of each size in bytes; `page_sizes`: a bit per size."""

    ioas_id: int
    automatic: bool
    endpoints: int
    tracking: bool
    format: int
    aperture: tuple[int, int]
    page_sizes: int
    leaves: dict[int, int]
    tables: int
    table_bytes: int


class Hwpt(ContextObject):
    """A page table fed by one IOAS: made by `Iommufd.hwpt`, or automatically when a device is attached to an IOAS.

    An automatic one belongs to the attachment: it goes with the last device, and close() leaves it alone. A *nested*
    one holds a guest's page table instead, on top of `parent`, and is not read here: no translation and no stats.
    """

    _made_by = "context.hwpt(device, ioas) or device.attach(ioas)"
    _kind = "HWPT"
    ioas: Ioas
    automatic: bool
    parent: Hwpt | Viommu | None = None
    fault: FaultQueue | None = None

    @property
    def nested(self) -> bool:
        """Whether it holds a guest's page table."""
        return self.parent is not None

    def translate(self, iovas: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        """Translate IOVAs through this page table: uint64 addresses (2**64-1: nothing there) and uint8 prots."""
        self._check()
        found, addresses, prots = batch.translate(self.context._h, self.id, iovas)
        check(found, "translate", f"cannot translate in {self._what()}")
        return addresses, prots

    def stats(self) -> HwptStats:
        """Counters of this moment."""
        self._check()
        return HwptStats(**check(self.context._h.hwpt_stats(self.id), "hwpt_stats", f"no stats of {self._what()}"))

    def invalidate(self, data_type: Invalidation, entries: Any = None, entry_length: int | None = None) -> int:
        """Tell the IOMMU which entries of a guest's page table have changed (nested page tables only).

        Parameters
        ----------
        data_type : int, VtdInvalidate or sequence of VtdInvalidate
            The driver's number for the layout of an entry; or entries, and nothing else.
        entries : ndarray, bytes-like or None
            A one-dimensional (structured) array of entries, or their bytes; None: no entry, which asks whether
            `data_type` is known.
        entry_length : int, optional
            Bytes of an entry in a bytes-like, by default all of it.

        Returns
        -------
        int
            Entries that were handled: all.

        Raises
        ------
        IommufdError
            ``.done`` entries were handled; the next one was refused, ``.errno`` says why.
        """
        return invalidate(self, data_type, entries, entry_length)

    # -- what is there ------------------------------------------------------------------------------------------------

    def leaves(self, start: int = 0, last: int = LAST) -> Iterator[LeafInfo]:
        """Iterate over the entries that intersect [start, last], ascending. What changes meanwhile may be seen or not.

        Raises
        ------
        Invalid
            It is nested: its entries are in the guest's memory.
        """
        from iommufd_fast.records import LeafInfo

        self._check()
        at, last = machines.as_u64(start, "start"), machines.as_u64(last, "last")
        while at <= last:
            found, entries = batch.leaves(self.context._h, self.id, at, last, _ROOM)
            check(found, "leaves", f"cannot list the entries of {self._what()}")
            for iova, address, size, prot in entries.tolist():
                yield LeafInfo(iova, address, 1 << size, _PROTS[prot & 3])
            if found < _ROOM:
                return
            at = iova + (1 << size)

    def _repr_svg_(self) -> str | None:
        if self.closed or (self.parent is not None):
            return None
        from iommufd_fast._core._picture import svg

        return svg(self.leaves(), f"{self!r}: {self.ioas!r}")

    # -- dirty pages --------------------------------------------------------------------------------------------------

    @property
    def dirty_tracking(self) -> bool:
        """Whether writes by devices are remembered. Turning it on forgets what is dirty.

        Raises
        ------
        NotSupported
            It was not made with ``HwptFlag.DIRTY_TRACKING``.
        """
        return self.stats().tracking

    @dirty_tracking.setter
    def dirty_tracking(self, on: bool) -> None:
        self._check()
        dirty_tracking(self, on)

    @overload
    def dirty(
        self,
        start: int | None = None,
        last: int | None = None,
        *,
        clear: bool = True,
        page_size: int | None = None,
        as_: Literal["ranges"] = "ranges",
    ) -> Iterator[tuple[int, int]]: ...

    @overload
    def dirty(
        self,
        start: int | None = None,
        last: int | None = None,
        *,
        clear: bool = True,
        page_size: int | None = None,
        as_: Literal["array", "bitmap"],
    ) -> NDArray[Any]: ...

    def dirty(
        self,
        start: int | None = None,
        last: int | None = None,
        *,
        clear: bool = True,
        page_size: int | None = None,
        as_: str = "ranges",
    ) -> Iterator[tuple[int, int]] | NDArray[Any]:
        """What devices wrote to since it was asked last: exactly the page table entries they went through.

        Unlike the raw GET_DIRTY_BITMAP, nothing is left out: gaps between mappings are passed over, and an entry of any
        size is reported whole. Memory may be copied by the answer: a write that comes too late for it is reported the
        next time.

        Parameters
        ----------
        start, last : int, optional
            The closed range to look at; everything by default. A bitmap needs both.
        clear : bool
            Whether what is reported becomes clean. An entry that sticks out of the range is reported by its part inside
            and stays dirty.
        page_size : int, optional
            Bytes that a bit of a bitmap stands for, a power of two; the smallest page by default.
        as_ : {"ranges", "array", "bitmap"}
            An iterator of closed ranges (first, last), ascending, adjacent ones joined; the same as a uint64 array of
            shape (n, 2); or a uint8 array in which bit ``i % 8`` of byte ``i // 8`` stands for the page at
            ``start + i * page_size`` (``np.unpackbits(…, bitorder="little")`` makes bytes of it).

        Raises
        ------
        NotSupported
            The page table was not made with ``HwptFlag.DIRTY_TRACKING``.
        """
        self._check()
        first = 0 if start is None else machines.as_u64(start, "start")
        end = LAST if last is None else machines.as_u64(last, "last")
        if first > end:
            raise ValueError(f"start {first:#x} is greater than last {end:#x}")
        if as_ not in ("ranges", "array", "bitmap"):
            raise ValueError(f"as_ must be 'ranges', 'array' or 'bitmap', not {as_!r}")
        if as_ == "bitmap":
            if start is None or last is None:
                raise ValueError("a bitmap needs start and last")
            return self._dirty_bitmap(first, end, clear, self._shift(page_size))
        if page_size is not None:
            raise ValueError("page_size is for bitmaps; ranges are exact")
        found = [part for part, _ in self._dirty(first, end, clear)]
        array = np.concatenate(found) if len(found) != 1 else found[0]
        return array if as_ == "array" else iter(list(map(tuple, array.tolist())))

    def _dirty(self, start: int, last: int, clear: bool) -> Iterator[tuple[NDArray[np.uint64], bool]]:
        from iommufd_fast._core import dirtyset

        at: int | None = start
        while at is not None:
            answer = dirtyset.ranges(self.context._h, self.id, at, last, clear, _ROOM)
            found, at = check(answer, "dirty", f"cannot read dirty pages of {self._what()}")
            yield found, at is None

    def _shift(self, page_size: int | None) -> int:
        sizes = self.stats().page_sizes
        size = sizes & -sizes if page_size is None else machines.as_u64(page_size, "page_size")
        if not size or size & (size - 1):
            raise ValueError(f"page_size must be a power of two, not {size}")
        return size.bit_length() - 1

    def _dirty_bitmap(self, start: int, last: int, clear: bool, shift: int) -> NDArray[np.uint8]:
        bits = (last - start >> shift) + 1
        if bits > _MOST_BITS:
            raise ValueError(f"a bitmap of {bits} bits is too large; ask for ranges, or use a larger page_size")
        from iommufd_fast._core import dirtyset

        bitmap = np.zeros((bits + 7) // 8, np.uint8)
        for found, _ in self._dirty(start, last, clear):
            dirtyset.mark(bitmap, np.ascontiguousarray(found), start, shift)
        return bitmap

    # -- life ---------------------------------------------------------------------------------------------------------

    def _holders(self) -> list[str]:
        return [f"device {e.dev_id}" for e in self.context.endpoints if e.hwpt_id == self.id]

    def close(self) -> None:
        """Destroy it, unless it is automatic. Again is fine.

        Raises
        ------
        Busy
            A device is attached to it, or a nested page table or vIOMMU stands on it.
        """
        if not self.automatic:
            super().close()

    def __repr__(self) -> str:
        kind = "automatic" if self.automatic else "nested" if self.nested else "made explicitly"
        return f"<Hwpt {self.id}: of IOAS {self.ioas.id}, {kind}{', closed' if self.closed else ''}>"
