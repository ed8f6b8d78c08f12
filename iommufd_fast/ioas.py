# SPDX-License-Identifier: Apache-2.0
"""An address space: IOVA to memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

import numpy as np

from iommufd_fast import uapi
from iommufd_fast._core import batch, filemap, handles, machines
from iommufd_fast._core.ioascore import access_flags
from iommufd_fast._core.origins import origin
from iommufd_fast.addressing import Addressing
from iommufd_fast.endpoint import Endpoint, endpoints_of
from iommufd_fast.errors import check, failed
from iommufd_fast.memory import DriverMemory
from iommufd_fast.reshaping import Reshaping
from iommufd_fast.sharing import LAST

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from iommufd_fast.context import Iommufd
    from iommufd_fast.hwpt import Hwpt
    from iommufd_fast.records import IoasStats, MappingInfo

_ACCESS = {2: "w", 4: "r", 6: "rw"}
_POLICIES = machines.POLICIES
_map_many = batch.map_many  # in a batch of a few entries each look-up of a name counts


class Ioas(DriverMemory, Addressing, Reshaping):
    """An I/O address space, made by `Iommufd.ioas`.

    Everything may be called from any thread. Closing destroys it; that is refused while a device is attached.
    """

    _origin: str | None

    @classmethod
    def _new(cls, context: Iommufd, number: int) -> Self:
        self = cls.__new__(cls)
        self.context, self._origin = context, origin()
        self._begin(context._h, number)
        return self

    # -- batches ------------------------------------------------------------------------------------------------------

    def map_many(
        self,
        addresses: ArrayLike,
        lengths: ArrayLike,
        *,
        iovas: ArrayLike | None = None,
        access: str = "rw",
        trusted: bool = False,
        policy: str | None = None,
    ) -> NDArray[np.uint64]:
        """Map many ranges of this process's memory, all or nothing.

        Parameters
        ----------
        addresses, lengths : array of integers, shape (n,)
            What to map; one integer as `lengths` is for all. The caller keeps the memory alive.
        iovas : array of integers, shape (n,), optional
            Where; chosen by default.
        access : {"rw", "r", "w"}
            What devices may do.
        trusted : bool
            False: check that the memory is there. True: take the caller's word.
        policy : {"trust", "probe", "mlock", "io_uring"}, optional
            How the memory is held, instead of `trusted`: see `Machine`.

        Returns
        -------
        ndarray of uint64, shape (n,)
            The IOVAs.

        Raises
        ------
        IommufdError
            ``.index`` is the entry that was refused, ``.errno`` says why. Nothing is mapped.
        """
        how = _POLICIES.get(policy or ("trust" if trusted else "probe"))
        if how is None:
            raise ValueError(f"policy must be one of {', '.join(map(repr, _POLICIES))}, not {policy!r}")
        err, index, out = _map_many(self, access_flags(access), how, addresses, lengths, iovas)
        if err < 0:
            total = int(np.broadcast_to(np.asarray(lengths, np.uint64), out.shape).sum())
            what = f"cannot map entry {index} of the batch into {self._what()}"
            raise self._refused(err, what, total, how, index)
        return out

    def unmap_many(self, iovas: ArrayLike, lengths: ArrayLike) -> NDArray[np.int32]:
        """Unmap many ranges and go on past errors.

        Parameters
        ----------
        iovas, lengths : array of integers, shape (n,)
            One integer as `lengths` is for all.

        Returns
        -------
        ndarray of int32, shape (n,)
            0, or the errno of each: ENOENT where nothing was mapped or a mapping stuck out.
        """
        self.check_open()
        done, errors, starts, sizes = batch.unmap_many(self.context._h, self.id, iovas, lengths)
        check(done, "unmap", f"cannot unmap from {self._what()}")
        if self.live_handles:
            for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
                handles.sweep(self, start, min(start + max(size, 1) - 1, LAST))
        return errors

    def translate(self, iovas: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        """Translate IOVAs through the first page table, as a device would.

        Returns
        -------
        addresses : ndarray of uint64
            2**64-1 where nothing is mapped.
        prots : ndarray of uint8
            1 read, 2 write.
        """
        self.check_open()
        found, addresses, prots = batch.translate(self.context._h, self.id, iovas)
        check(found, "translate", f"cannot translate in {self._what()}")
        return addresses, prots

    # -- single calls -------------------------------------------------------------------------------------------------

    def unmap(self, iova: int, length: int) -> int:
        """Unmap all mappings that lie inside a range. `Mapping` handles of them become stale.

        Returns
        -------
        int
            Bytes that went.

        Raises
        ------
        NotFound
            Nothing was mapped, or a mapping sticks out of the range; those before it are gone.
        """
        self.check_open()
        start, size = machines.as_u64(iova, "iova"), machines.as_u64(length, "length")
        gone = self.context._h.ioas_unmap(self.id, start, size)
        handles.sweep(self, start, min(start + max(size, 1) - 1, LAST))
        return check(gone, "unmap", f"cannot unmap {size:#x} bytes at IOVA {start:#x} from {self._what()}")

    def unmap_all(self) -> int:
        """Unmap everything; returns how many bytes."""
        return self.unmap(0, LAST)

    def iova_ranges(self) -> list[tuple[int, int]]:
        """Closed ranges of IOVAs that are not reserved (mappings do not matter)."""
        return self._ranges()[0]

    @property
    def alignment(self) -> int:
        """What IOVAs, lengths and addresses must be multiples of."""
        return self._ranges()[1]

    def _ranges(self) -> tuple[list[tuple[int, int]], int]:
        self.check_open()
        return check(self.context._h.ioas_ranges(self.id), "ranges", f"no ranges of {self._what()}")

    def allow(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Confine automatic IOVAs to closed ranges (start, last), and keep devices away that would reserve them.

        An empty list allows everything. Fixed IOVAs are not confined.
        """
        self.check_open()
        pairs = [(machines.as_u64(start, "start"), machines.as_u64(last, "last")) for start, last in ranges]
        check(self.context._h.ioas_allow(self.id, pairs), "allow", f"cannot allow {pairs} in {self._what()}")

    @property
    def huge_pages(self) -> bool:
        """Whether page tables may use large pages. Cannot be turned off while mapped and attached."""
        self.check_open()
        value = self.context._h.option(uapi.Option.HUGE_PAGES, uapi.OptionOp.GET, self.id, 0)
        return bool(check(value, "huge_pages", f"cannot read huge_pages of {self._what()}"))

    @huge_pages.setter
    def huge_pages(self, on: bool) -> None:
        self.check_open()
        value = self.context._h.option(uapi.Option.HUGE_PAGES, uapi.OptionOp.SET, self.id, int(bool(on)))
        check(value, "huge_pages", f"cannot set huge_pages of {self._what()} to {bool(on)}")

    # -- what is there ------------------------------------------------------------------------------------------------

    def mappings(self) -> Iterator[MappingInfo]:
        """List the mappings, ascending; what changes meanwhile may or may not be seen."""
        from iommufd_fast.records import MappingInfo

        start = 0
        while start <= LAST:
            self.check_open()
            found = self.context._h.mapping(self.id, start, LAST)
            if isinstance(found, int):
                return
            iova, last, address, flags = found
            kind = "file" if flags & filemap.FILE else "memory"
            yield MappingInfo(iova, last, address, _ACCESS.get(flags & 6, ""), kind)
            start = last + 1

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Whose DMA ends up here."""
        self.check_open()
        return endpoints_of(
            check(self.context._h.endpoints(0, self.id), "endpoints", f"no endpoints of {self._what()}")
        )

    @property
    def hwpts(self) -> tuple[Hwpt, ...]:
        """The page tables that it feeds."""
        self.check_open()
        return tuple(h for h in self.context.hwpts if h.ioas is self)

    def _repr_svg_(self) -> str | None:
        """For notebooks: the entries of its first page table, or without one its mappings."""
        if self.closed or self.context._h.forked:
            return None
        from iommufd_fast._core._picture import svg
        from iommufd_fast.records import LeafInfo

        tables = [h for h in self.hwpts if h.parent is None]
        if tables:
            return svg(tables[0].leaves(), repr(self)[1:-1])
        found = (LeafInfo(m.iova, m.address, m.length, m.access) for m in self.mappings())
        return svg(found, f"{repr(self)[1:-1]}; coloured by the sizes of mappings")

    def stats(self) -> IoasStats:
        """Counters of this moment."""
        from iommufd_fast.records import IoasStats

        self.check_open()
        return IoasStats(**check(self.context._h.ioas_stats(self.id), "stats", f"no stats of {self._what()}"))

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it was destroyed, or its context closed."""
        return self.gone_because is not None or self.context.closed

    def close(self) -> None:
        """Destroy it with all its mappings. Again is fine.

        Raises
        ------
        Busy
            A device is attached, or a page table was made from it.
        """
        if self.closed or self.context._h.forked:
            return
        with self.context._names.closing(self) as mine:
            if mine and not self.closed:
                self._destroy()

    def _destroy(self) -> None:
        if self._caches and not self._holders():
            self._end_caches()
        err = self.context._h.destroy(self.id)
        if err < 0:
            raise failed(err, "destroy", f"cannot destroy {self._what()}", holders=self._holders())
        self.context._lost(self)

    def _holders(self) -> str:
        names = [f"HWPT {h.id}" for h in self.hwpts] + [f"device {e.dev_id}" for e in self.endpoints]
        names += [f"access {a.id}" for a in self.context.accesses if a.ioas is self]
        return f" by {', '.join(names)}" if names else ""

    def _end(self, why: str) -> None:
        self._end_caches()
        self._finish(f"{self._what()} {why}")
        handles.sweep(self, 0, LAST)

    def __enter__(self) -> Self:
        self.check_open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.context._h.forked:
            return f"<Ioas {self.id} of the parent process>"
        if self.closed:
            return f"<Ioas {self.id}, closed>"
        found = self.context._h.ioas_stats(self.id)
        if isinstance(found, int):
            return f"<Ioas {self.id}, destroyed>"
        return (
            f"<Ioas {self.id}: {found['mappings']} mappings, {found['bytes_mapped']:#x} bytes, "
            f"{found['hwpts']} page tables, {found['endpoints']} endpoints>"
        )
