# SPDX-License-Identifier: Apache-2.0
"""A pinned range of an address space, and the memory in it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from iommufd_fast._core.accesscore import Window

if TYPE_CHECKING:
    from iommufd_fast.access import Access

PAGE = 4096


class Pin:
    """A range that is pinned: its memory can be used, and cannot be unmapped, until `unpin`. A context manager.

    Attributes
    ----------
    iova, length : int
        What was asked for.
    write : bool
        Whether the views can be written to.
    """

    def __init__(self, access: Access, iova: int, length: int, write: bool, windows: list[Window]) -> None:
        self.access, self.iova, self.length, self.write = access, iova, length, write
        self._windows = windows
        self._given: list[memoryview] = []
        self._live = True

    @property
    def live(self) -> bool:
        """Whether it is still pinned."""
        return self._live

    @property
    def views(self) -> tuple[memoryview, ...]:
        """The memory itself, a memoryview for each piece that is contiguous in this process, in the order of IOVAs.

        They are released by `unpin`; what was made from them (slices, arrays) has to be released before.
        """
        with self.access._lock:
            if not self._live:
                raise ValueError(f"{self!r} is not pinned any more")
            self._given.extend(made := [memoryview(w) for w in self._windows])
        return tuple(made)

    @property
    def view(self) -> memoryview:
        """The memory in one piece; ValueError when there are several."""
        if len(self._windows) != 1:
            raise ValueError(f"the range lies in {len(self._windows)} pieces; use views")
        return self.views[0]

    def unpin(self) -> None:
        """Give it back. Again is fine.

        Raises
        ------
        BufferError
            Something that was made from the views is still in use; the range stays pinned.
        """
        with self.access._lock:
            if not self._live:
                return
            self._release()
            self._live = False
        start, size = self._pages()
        self.access._unpin(start, size)
        self.access._pins.discard(self)  # only now: whoever unmaps waits for this

    def _release(self) -> None:
        for view in self._given:
            with suppress(BufferError):  # something was made from this view; counted below
                view.release()
        in_use = sum(w.exports for w in self._windows)
        if in_use:
            raise BufferError(f"{in_use} views of {self!r} are still in use; release them first")
        self._given.clear()
        for window in self._windows:
            window.shut_down()

    def _pages(self) -> tuple[int, int]:
        start = self.iova & ~(PAGE - 1)
        return start, self.iova + self.length - start

    def _intersects(self, iova: int, length: int) -> bool:
        start, size = self._pages()
        return start < iova + length and iova < start + size

    def __enter__(self) -> Pin:
        if not self._live:
            raise ValueError(f"{self!r} is not pinned any more")
        return self

    def __exit__(self, *exc: object) -> None:
        self.unpin()

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        return f"<Pin of IOVA {self.iova:#x}+{self.length:#x}{'' if self._live else ', given back'}>"
