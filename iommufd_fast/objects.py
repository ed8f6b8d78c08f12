# SPDX-License-Identifier: Apache-2.0
"""Objects of a context that have an id and are destroyed by it: what their handles have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from iommufd_fast._core import machines
from iommufd_fast._core import objects as core
from iommufd_fast._handle import Owned
from iommufd_fast.errors import check, failed

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from iommufd_fast.context import Iommufd


class ContextObject(Owned):
    """A handle of an object in a context. Closing destroys it; the context closes what is left."""

    context: Iommufd
    id: int
    _gone: bool = False
    _kind: str = "object"
    _has_file: bool = False

    def _what(self) -> str:
        return f"{self._kind} {self.id} of {self.context._h.name}"

    def _check(self) -> None:
        if self._gone:
            raise ValueError(f"{self._what()} is closed")
        self.context._h.check_open()

    @property
    def closed(self) -> bool:
        """Whether it is gone."""
        return self._gone or self.context.closed

    def _holders(self) -> list[str]:
        """What keeps it busy, as far as this side knows."""
        return []

    def close(self) -> None:
        """Destroy it. Again is fine.

        Raises
        ------
        Busy
            Something still uses it.
        """
        if self.closed or self.context._h.forked:
            return
        with self.context._names.closing(self) as mine:
            if mine and not self.closed:
                self._destroy()

    def _destroy(self) -> None:
        err = self.context._h.destroy(self.id)
        if err < 0:
            names = self._holders()
            by = f" by {', '.join(names)}" if names else ""
            raise failed(err, "destroy", f"cannot destroy {self._what()}", holders=by)
        self.context._lost(self)

    def _end(self, why: str) -> None:
        self._gone = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}{', closed' if self.closed else ''}>"


def invalidate(target: Any, data_type: Any, entries: Any, entry_length: int | None) -> int:
    """Tell a driver what a guest has changed; see `Hwpt.invalidate`."""
    target._check()
    if not hasattr(data_type, "__index__"):
        from iommufd_fast.guest import entries_of

        data_type, entries, entry_length = entries_of(data_type)
    data, size, n = _entries(entries, entry_length)
    kind = machines.as_u64(data_type, "data_type", 0xFFFFFFFF)
    err, done = core.invalidate(target.context._h, target.id, kind, data, size, n)
    if err < 0:
        error = failed(err, "invalidate", f"cannot invalidate in {target._what()}: entry {done} of {n} was refused")
        error.done = done
        raise error
    return done


def _entries(entries: Any, entry_length: int | None) -> tuple[Buffer | None, int, int]:
    """(buffer, bytes of an entry, number of entries)."""
    if entries is None:
        return None, 0, 0
    if isinstance(entries, np.ndarray) and not (entries.dtype == np.uint8 and entry_length):
        if entries.ndim != 1:
            raise ValueError(f"entries has shape {entries.shape}; it must have one dimension, an entry each")
        if entry_length not in (None, entries.itemsize):
            raise ValueError(f"entry_length is {entry_length}, but each entry of the array has {entries.itemsize}")
        return np.ascontiguousarray(entries).view(np.uint8).data, entries.itemsize, len(entries)
    with memoryview(entries) as view:
        size = view.nbytes
    if entry_length is None:
        return entries, size, 1 if size else 0
    length = machines.as_u64(entry_length, "entry_length", 0xFFFFFFFF)
    if not length or size % length:
        raise ValueError(f"{size} bytes are not a number of entries of {length} bytes each")
    return entries, length, size // length


def dirty_tracking(hwpt: Any, on: bool) -> None:
    """Set a page table's dirty tracking."""
    err = core.set_dirty_tracking(hwpt.context._h, hwpt.id, bool(on))
    check(err, "dirty", f"cannot turn dirty tracking {'on' if on else 'off'} in {hwpt._what()}")
