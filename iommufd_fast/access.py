# SPDX-License-Identifier: Apache-2.0
"""Using an address space from this process, without an IOMMU: what an emulated device does."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iommufd_fast._core import machines
from iommufd_fast._core.accesscore import AccessCore, Window
from iommufd_fast.errors import NotSupported, check
from iommufd_fast.ioas import LAST, Ioas
from iommufd_fast.pin import PAGE, Pin

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from iommufd_fast.context import Iommufd

OnUnmap = Callable[["Access", int, int], Any]


def _wait_while(condition: Callable[[], bool]) -> None:
    while condition():
        time.sleep(10e-6)


class Access(AccessCore):
    """The use of one address space at a time by this process, made by `Iommufd.access`.

    Unmapping what is pinned waits until it is given back. Whoever unmaps first calls `on_unmap`, then pins that
    intersect the range are given back here. Views that are in use elsewhere hold the unmapping up, and after 100
    rounds it fails with EDEADLK.
    """

    context: Iommufd
    ioas: Ioas | None
    on_unmap: OnUnmap | None
    _pins: set[Pin]
    _lock: threading.RLock
    _underway: set[Pin]  # between the engine's pinning and ours
    _inside: set[int]

    @classmethod
    def _new(cls, context: Iommufd, pins: bool, on_unmap: OnUnmap | None) -> Access:
        self = cls.__new__(cls)
        self.context, self.ioas, self.on_unmap = context, None, on_unmap
        self._pins, self._lock, self._underway, self._inside = set(), threading.RLock(), set(), set()
        check(self._begin(context._h, pins), "access", f"cannot make an access in {context._h.name}")
        return self

    # -- where --------------------------------------------------------------------------------------------------------

    def attach(self, ioas: Ioas) -> None:
        """Use an address space, instead of the one that is used now if there is one, whose pins are given back.

        Raises
        ------
        BufferError
            Views of a pin are still in use; nothing was done.
        """
        self.check_open()
        if not isinstance(ioas, Ioas):
            raise TypeError(f"an access is attached to an Ioas, not to a {type(ioas).__name__}")
        ioas.check_open()
        if ioas.context is not self.context:
            raise ValueError(f"{ioas!r} belongs to another context than access {self.id}")
        replaced = self.ioas is not None
        if replaced and ioas is not self.ioas:
            self._outside("replace")
            self.unpin_all()
        check(self._move(ioas.id, replaced), "access", f"cannot attach access {self.id} to {ioas!r}")
        self.ioas = ioas

    def replace(self, ioas: Ioas) -> None:
        """Do what `attach` does on an attached access."""
        self.attach(ioas)

    def detach(self) -> None:
        """Leave the address space; pins are given back. Again is fine."""
        self.check_open()
        self._outside("detach")
        self.unpin_all()
        self._leave()
        self.ioas = None

    # -- memory -------------------------------------------------------------------------------------------------------

    def pin(self, iova: int, length: int, write: bool = False) -> Pin:
        """Pin a range and get at its memory, without copying.

        Parameters
        ----------
        iova, length : int
            The pages in which it lies are pinned, all of them or none.
        write : bool
            Whether it is going to be written to; the mapping must permit that.

        Raises
        ------
        NotFound
            Not all of the range is mapped.
        NotPermitted
            Not mapped for reading, or for writing.
        NotSupported
            The memory has no address in this process (files on a machine with synthetic addresses); use `read`.
        """
        start, size = machines.as_u64(iova, "iova"), machines.as_u64(length, "length")
        if not size or size - 1 > LAST - start:
            raise ValueError(f"cannot pin {size:#x} bytes at IOVA {start:#x}: length must be at least 1, without wrap")
        made = Pin(self, start, size, bool(write), [])
        first, whole = made._pages()
        self._underway.add(made)
        try:
            what = f"cannot pin {size:#x} bytes at IOVA {start:#x} through access {self.id}"
            runs = check(self._pin(first, whole, bool(write)), "pin", what)
            try:
                made._windows = self._windows(made, first, whole, runs)
            except BaseException:
                self._unpin(first, whole)
                raise
            self._pins.add(made)
        finally:
            self._underway.discard(made)
        return made

    def _windows(self, pin: Pin, first: int, whole: int, runs: list[tuple[int, int]]) -> list[Window]:
        """Where the pinned pages are in this process, without the part of the first page before the range."""
        if self.context._engine()._synthetic:
            pieces = self._sources(first, whole)
        else:
            pieces = [(address, pages * PAGE) for address, pages in runs]
        made, skip, left = [], pin.iova - first, pin.length
        for address, size in pieces:
            part = min(size - skip, left)
            made.append(Window(address + skip, part, pin.write, pin))
            left, skip = left - part, 0
        return made

    def _sources(self, first: int, whole: int) -> list[tuple[int, int]]:
        """The same by asking for the mappings, where page tables hold made-up addresses. Pinned ones stay."""
        pieces: list[tuple[int, int]] = []
        at, last = first, first + whole - 1
        while at <= last:
            found = self.context._h.mapping(self.ioas.id if self.ioas else 0, at, last)
            if isinstance(found, int) or found[3] & ~6:
                what = f"the memory at IOVA {at:#x} has no address in this process; use read() and write()"
                raise NotSupported(errno.EOPNOTSUPP, what)
            start, end, address, _ = found
            size = min(end, last) - at + 1
            where = address + at - start
            if pieces and pieces[-1][0] + pieces[-1][1] == where:
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + size)
            else:
                pieces.append((where, size))
            at = end + 1
        return pieces

    @property
    def pinned(self) -> tuple[Pin, ...]:
        """The pins that were not given back yet, by IOVA."""
        return tuple(sorted((p for p in list(self._pins) if p.live), key=lambda p: (p.iova, p.length)))

    def unpin_all(self) -> None:
        """Give back all pins."""
        for pin in self.pinned:
            pin.unpin()

    def read(self, iova: int, length: int) -> bytes:
        """Copy memory out, of any alignment, without pinning it."""
        out = bytearray(machines.as_u64(length, "length", 1 << 62))
        self.read_into(iova, out)
        return bytes(out)

    def read_into(self, iova: int, buffer: Buffer) -> None:
        """Copy memory into a writable buffer, which says how much."""
        start = machines.as_u64(iova, "iova")
        check(self._rw(start, buffer, False), "access_rw", f"cannot read at IOVA {start:#x} through access {self.id}")

    def write(self, iova: int, data: Buffer) -> None:
        """Copy data into memory. Before an error a part may have been written."""
        start = machines.as_u64(iova, "iova")
        check(self._rw(start, data, True), "access_rw", f"cannot write at IOVA {start:#x} through access {self.id}")

    # -- unmapping ----------------------------------------------------------------------------------------------------

    def unmapping(self, iova: int, length: int) -> None:
        """For the engine: somebody unmaps a range. Runs in the thread that does."""
        me = threading.get_ident()
        self._inside.add(me)
        try:
            if self.on_unmap is not None:
                self.on_unmap(self, iova, length)
        finally:
            try:
                self._let_go(iova, length)
            finally:
                self._inside.discard(me)

    def _let_go(self, iova: int, length: int) -> None:
        # The engine has pinned for these and they were not noted yet; those that begin now are refused by it.
        coming = [pin for pin in list(self._underway) if pin._intersects(iova, length)]
        _wait_while(lambda: any(pin in self._underway for pin in coming))
        # Another thread may be unpinning: when this returns, the engine has to know.
        held = [pin for pin in list(self._pins) if pin._intersects(iova, length)]
        for pin in held:
            try:
                pin.unpin()
            except BufferError:  # in use elsewhere: the engine asks again, 100 times
                time.sleep(1e-3)
        _wait_while(lambda: any(pin in self._pins and not pin.live for pin in held))

    def _outside(self, what: str) -> None:
        if threading.get_ident() in self._inside:
            raise RuntimeError(f"cannot {what} access {self.id} in its on_unmap: only unpin() is allowed there")

    # -- life ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back all pins, detach and destroy. Again is fine.

        Raises
        ------
        BufferError
            Views of a pin are still in use; it stays open.
        """
        if self.closed:
            return
        if not self.context._h.forked:
            self._outside("close")
            self.unpin_all()
        self._destroy()
        self.ioas = None
        self.context._accesses.discard(self)

    def __enter__(self) -> Access:
        self.check_open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = f"of IOAS {self.ioas.id}" if self.ioas else "not attached"
        return f"<Access {self.id}: {where}, {len(self._pins)} pins{', closed' if self.closed else ''}>"
