# SPDX-License-Identifier: Apache-2.0
"""Memory of a device that others import: dma-bufs of a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iommufd_fast._core.queuefile import QueueHandle
from iommufd_fast._handle import Owned
from iommufd_fast.errors import check

if TYPE_CHECKING:
    from iommufd_fast.machine import Machine


class DmaBuf(Owned):
    """A dma-buf, made by `Machine.dmabuf`: give it to `Ioas.map_file`, or ``mmap.mmap(buf.fileno(), size)`` it.

    Closing lets go of the exporter's side; what is mapped stays as it is.
    """

    _made_by = "machine.dmabuf(size)"
    machine: Machine
    size: int
    _h: QueueHandle

    @classmethod
    def _make(cls, machine: Machine, core: Any, size: int) -> DmaBuf:
        handle = QueueHandle()
        err = handle.open_dmabuf(core, size, f"dma-buf of {size:#x} bytes")
        check(err, "dmabuf", f"cannot make a dma-buf of {size:#x} bytes")
        return cls._new(machine=machine, size=(size + 4095) & ~4095, _h=handle)

    @property
    def closed(self) -> bool:
        """Whether the exporter's side was closed."""
        return self._h.closed

    def fileno(self) -> int:
        """A descriptor of this process, open until this is closed."""
        return self._h.fileno()

    def revoke(self) -> None:
        """Take the memory back: every import there is becomes a hole for devices, for good; new ones are refused."""
        check(self._h.revoke(True), "dmabuf", f"cannot revoke {self!r}")

    def restore(self) -> None:
        """Allow new imports again. Those that were made before stay dead; live ones end, too."""
        check(self._h.revoke(False), "dmabuf", f"cannot restore {self!r}")

    @property
    def imports(self) -> int:
        """How many mappings have it, ended ones too."""
        return check(self._h.imports(), "dmabuf", f"no count of {self!r}")

    def close(self) -> None:
        """Close. Again is fine."""
        self._h.close()

    def __repr__(self) -> str:
        return f"<DmaBuf: {self.size:#x} bytes{', closed' if self.closed else ''}>"
