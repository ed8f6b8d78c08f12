# SPDX-License-Identifier: Apache-2.0
"""Large maps over threads, other memory for what is mapped, and how many entries a space uses."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from iommufd_fast._core import handles, machines, reshape
from iommufd_fast._core._policies import named
from iommufd_fast._core.ioascore import access_flags
from iommufd_fast._core.mapping import Mapping
from iommufd_fast._core.origins import origin
from iommufd_fast.errors import check, from_errno
from iommufd_fast.sharing import LAST, Sharing
from iommufd_fast.uapi import MapFlag

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Entries:
    """How many entries a space uses, and would at the least.

    Attributes
    ----------
    mappings : int
        Mappings: what a provider with a limit counts.
    coalesced : int
        How many there would be if neighbours with consecutive memory and equal permissions were one mapping.
    limit : int or None
        The most that the provider can have; None: as many as there is memory for.
    leaves : dict of int to int or None
        Leaves of all its page tables, by bytes; None: the provider does not tell, as a kernel does not.
    fewest_leaves : int
        What one page table would need at the least, at the same IOVAs.
    """

    mappings: int
    coalesced: int
    limit: int | None
    leaves: dict[int, int] | None
    fewest_leaves: int


def _span(memory: Buffer | int, length: int | None, writable: bool) -> tuple[int, int, list[Any]]:
    """Address, bytes, and what keeps an object's memory in place."""
    if isinstance(memory, int) or (hasattr(memory, "__index__") and not isinstance(memory, np.ndarray)):
        if length is None:
            raise TypeError("an address needs a length")
        return machines.as_u64(memory, "address"), machines.as_u64(length, "length"), []
    with memoryview(memory) as view:
        if not view.c_contiguous:
            raise ValueError(f"the {type(memory).__name__} is not contiguous; copy it first")
        if writable and view.readonly:
            raise ValueError(f"the {type(memory).__name__} is read-only; map it with access='r'")
        size = view.nbytes if length is None else machines.as_u64(length, "length")
        if size > view.nbytes:
            raise ValueError(f"length {size:#x} is more than the {view.nbytes:#x} bytes of the {type(memory).__name__}")
    held = np.frombuffer(memoryview(memory), np.uint8) if size else np.empty(0, np.uint8)
    return held.ctypes.data, size, [held]


def _pages(address: int, size: int) -> tuple[int, int, int]:
    """The first page, bytes of whole pages, and where in them the memory begins."""
    if size == 0:
        raise ValueError("cannot map 0 bytes: length must be at least 1")
    inside = address % _PAGE
    return address - inside, -(-(inside + size) // _PAGE) * _PAGE, inside


class Reshaping(Sharing):
    """The part of `Ioas` that changes much at once."""

    _warned = False

    def map_parallel(
        self,
        memory: Buffer | int,
        length: int | None = None,
        *,
        threads: int = 0,
        progress: Callable[[int, int], object] | None = None,
        iova: int | None = None,
        access: str = "rw",
        policy: str | None = None,
    ) -> Mapping:
        """Map a large region over several threads.

        It is cut at large-page boundaries; each piece is a mapping of its own, and all are one handle.

        Parameters
        ----------
        memory, length, iova, access, policy
            As for `map`. An address is mapped in whole pages too.
        threads : int
            The calling one included; 0: one for each processor that this process may use.
        progress : callable (done, total) -> object, optional
            Called now and then in the calling thread, with bytes. False (or an exception, which comes out of this
            call) cancels: nothing is mapped then.

        Raises
        ------
        IommufdError
            As `map`; ECANCELED when `progress` said so. Nothing is mapped.
        """
        self.check_open()
        flags = int(access_flags(access))
        number = 0 if policy is None else named(self.context._h.kernel, None, policy)
        address, size, owners = _span(memory, length, bool(flags & MapFlag.WRITEABLE))
        start, whole, inside = _pages(address, size)
        place = 0
        if iova is not None:
            place, flags = machines.as_u64(iova, "iova") - inside, flags | MapFlag.FIXED_IOVA
            if place < 0 or place % _PAGE:
                raise ValueError(f"iova {iova:#x} must have the memory's offset in its page, {inside:#x}")
        err, at, _, error = reshape.map_parallel(
            self.context._h,
            self.id,
            flags,
            number,
            start,
            whole,
            place,
            machines.as_u64(threads, "threads", 1024),
            progress,
        )
        if error is not None:
            raise error
        what = f"cannot map {size:#x} bytes at address {address:#x} into {self._what()} by {threads or 'all'} threads"
        if err == -errno.ECANCELED:
            raise from_errno(err, f"{what}: progress() asked for it; nothing is mapped")
        if err < 0:
            raise self._refused(err, what, whole, number)
        return reshape.trim(handles.adopt(self, at, whole, flags & 6, owners, origin()), inside, size)

    def replace_range(
        self, mapping: Mapping, memory: Buffer | int, *, access: str = "rw", allow_gap: bool = False
    ) -> Mapping:
        """Give a mapping's IOVAs to other memory, in one step.

        A device meets the old memory or the new, never nothing, and once it has met the new, not the old again.

        Parameters
        ----------
        mapping : Mapping
            What is there now, of this IOAS and one mapping; it is closed by this.
        memory : buffer or int
            As large as it, and at the same offset in its page.
        allow_gap : bool
            A kernel can only unmap and map again; DMA in between faults. True: do that then.

        Returns
        -------
        Mapping
            At the same IOVA.

        Raises
        ------
        NotSupported
            The provider can do it in two steps only, and `allow_gap` is False. Nothing was done.
        IommufdError
            As `map`; everything is as before. With a gap the old memory is mapped again, and the error's `mapping` is
            its handle.
        """
        self.check_open()
        if mapping.ioas is not self or mapping.closed:
            raise ValueError(f"{mapping!r} is not a live mapping of {self._what()}")
        flags = int(access_flags(access))
        address, size, owners = _span(memory, mapping.length, bool(flags & MapFlag.WRITEABLE))
        start, whole, inside = _pages(address, size)
        first, last = mapping.range
        if inside != mapping.iova - first or whole != last - first + 1:
            raise ValueError(f"the memory must begin {mapping.iova - first:#x} bytes into its page, not {inside:#x}")
        err = reshape.replace(self.context._h, self.id, flags, 0, first, whole, start)
        what = f"cannot replace {size:#x} bytes at IOVA {mapping.iova:#x} of {self._what()}"
        if err == -errno.EOPNOTSUPP:
            if not allow_gap:
                raise from_errno(err, f"{what}: this provider can only unmap and map again; allow_gap=True does that")
            return self._replace_in_two(mapping, memory, access)
        if err < 0:
            raise self._refused(err, what, whole, 0)
        handles.sweep(self, first, last)
        return reshape.trim(handles.adopt(self, first, whole, flags, owners, origin()), inside, size)

    def _replace_in_two(self, mapping: Mapping, memory: Buffer | int, access: str) -> Mapping:
        old: Any = mapping.address if mapping.memory is None else mapping.memory
        at, size, was = mapping.iova, mapping.length, mapping.access
        mapping.unmap()
        try:
            return self.map(memory, size, iova=at, access=access)
        except BaseException as error:
            error.mapping = self.map(old, size, iova=at, access=was)  # type: ignore[attr-defined]
            raise

    def entries(self) -> Entries:
        """Count mappings and page-table leaves, and how few there could be.

        Warns once when nine tenths of what the provider can have are used.
        """
        self.check_open()
        found = check(reshape.entries(self.context._h, self.id), "stats", f"no entries of {self._what()}")
        mappings, coalesced, limit, leaves, fewest = found
        self._warn_of(mappings, coalesced, limit)
        return Entries(mappings, coalesced, None if limit == LAST else limit, leaves, fewest)

    def _warn_of(self, mappings: int, coalesced: int, limit: int) -> None:
        if self._warned or mappings * 10 < limit * 9:
            return
        self._warned = True
        warnings.warn(
            f"{self._what()} has {mappings} mappings of at most {limit}; map larger pieces (with neighbours joined it "
            f"would be {coalesced})",
            ResourceWarning,
            stacklevel=3,
        )
