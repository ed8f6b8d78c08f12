# SPDX-License-Identifier: Apache-2.0
"""Memory for drivers: what an address space offers beside mapping one buffer at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from iommufd_fast._core.ioascore import access_flags
from iommufd_fast._core.mapping import Mapping
from iommufd_fast._handle import Followers
from iommufd_fast.sharing import Sharing

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from typing_extensions import Buffer

    from iommufd_fast.arena import DmaArena
    from iommufd_fast.dmaarray import DmaArray
    from iommufd_fast.mapcache import MapCache


class DriverMemory(Sharing):
    """The part of `Ioas` about memory that drivers use. See docs/memory.md for which call is for what."""

    _caches: Followers | None = None

    def alloc(
        self,
        shape: int | tuple[int, ...],
        dtype: DTypeLike = "u1",
        *,
        page: str = "auto",
        numa: int | None = None,
        shared: bool = False,
        iova: int | None = None,
        access: str = "rw",
    ) -> DmaArray:
        """Make an array of zeros in memory that is mapped here.

        Parameters
        ----------
        shape, dtype
            As for `numpy.zeros`.
        page : {"auto", "4K", "thp", "2M", "1G"}
            What pages it is made of. "auto" takes the largest that are to be had and waste at most an eighth: hugetlb
            pages of 1 GiB, of 2 MiB, transparent huge pages, 4 KiB; a `PageSizeWarning` says when that was less than
            wanted. The others are taken or refused.
        numa : int, optional
            The node that all of it must be on.
        shared : bool
            Whether it is a memfd (``array.memory.fd``), for other processes and `map_file`.
        iova : int, optional
            Where. Chosen by default.
        access : {"rw", "r", "w"}
            What devices may do.

        Returns
        -------
        DmaArray
            With ``.iova``, also of its contiguous slices. Unmapped and freed with the last view of it.

        Raises
        ------
        IommufdError
            ENOMEM: no memory of that kind. EINVAL: no such node, or page size. Or as for `map`.
        """
        from iommufd_fast.dmaarray import make_array

        self.check_open()
        return make_array(self, shape, dtype, page, numa, shared, iova, access)

    def arena(
        self,
        *,
        region: int = 2 << 20,
        limit: int | None = None,
        page: str = "auto",
        numa: int | None = None,
        poison: bool = False,
    ) -> DmaArena:
        """Make an arena: memory that is mapped once and carved into buffers.

        Parameters
        ----------
        region : int
            Bytes that are mapped at a time, a power of two from 64 KiB to 1 GiB: the largest buffer.
        limit : int, optional
            Bytes that it may grow to, a multiple of `region`; 64 regions by default.
        page, numa
            As for `alloc`.
        poison : bool
            Fill what is given back, and count what somebody writes there afterwards (``stats().late_writes``).
        """
        from iommufd_fast.arena import DmaArena

        self.check_open()
        return DmaArena._new(self, region, limit, page, numa, poison)

    def map_cache(
        self,
        *,
        access: str = "rw",
        max_bytes: int | None = None,
        max_entries: int = 4096,
        join: bool = False,
        max_joined: int = 2 << 20,
        watch: bool = False,
        keep: bool = True,
    ) -> MapCache:
        """Make a cache of mappings: buffers are mapped when first used, and stay mapped while there is room.

        Parameters
        ----------
        access : {"rw", "r", "w"}
            What devices may do.
        max_bytes, max_entries : int
            How much may be mapped. What was not used for long is unmapped first; what is in use stays.
        join : bool
            Map a buffer together with cached neighbours that nobody uses, up to `max_joined` bytes. Buffers that
            overlap always are.
        watch : bool
            Notice when memory is unmapped or moved, by userfaultfd. NotPermitted, Invalid … where there is none.
        keep : bool
            Hold each buffer's memory until it is unmapped. False: only while it is in use; whoever frees it then has to
            `invalidate` it first (or `watch`).
        """
        from iommufd_fast.mapcache import MapCache

        self.check_open()
        cache = MapCache._new(self, access, max_bytes, max_entries, max_joined, join, watch, keep)
        self.__dict__.setdefault("_caches", Followers()).add(cache)
        return cache

    def map_sg(
        self,
        buffers: Iterable[Buffer | tuple[int, int]],
        *,
        iova: int | None = None,
        access: str = "rw",
        trusted: bool | None = None,
    ) -> Mapping:
        """Map buffers one behind the other, so that a device sees one range. All or nothing.

        Parameters
        ----------
        buffers : iterable of buffers, or of tuples (address, length)
            Only the first may begin, and only the last may end, inside a page.
        iova : int, optional
            Where the first byte shall be, with its offset in the page. Chosen by default.
        access, trusted
            As for `map`.

        Returns
        -------
        Mapping
            One handle for all.

        Raises
        ------
        IommufdError
            ``.index`` is the entry that was refused. Nothing is mapped.
        """
        from iommufd_fast._core import sglist

        return sglist.map_sg(self, buffers, iova, access_flags(access), trusted)

    def _end_caches(self) -> None:
        """Before the address space goes."""
        for cache in list(self._caches or ()):
            cache._end()
