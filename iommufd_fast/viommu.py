# SPDX-License-Identifier: Apache-2.0
"""Virtual IOMMUs: what a guest believes to have, on top of a page table that nests.

Of the soft IOMMUs "arm" and "amd" have some, and the driver of an embedder may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iommufd_fast._core import machines
from iommufd_fast._core import objects as core
from iommufd_fast._core.regions import RegionCore
from iommufd_fast.errors import check
from iommufd_fast.events import EventQueue
from iommufd_fast.objects import ContextObject, invalidate

if TYPE_CHECKING:
    from iommufd_fast.device import Device
    from iommufd_fast.hwpt import Hwpt, Invalidation

# Bytes of an event's data, of the types that the contract knows.
_EVENT_SIZES = {1: 32, 2: 16}


class Viommu(ContextObject):
    """A virtual IOMMU, made by `Iommufd.viommu`.

    Attributes
    ----------
    device, parent : Device, Hwpt
        What it was made for and the page table it stands on, which cannot be destroyed before it.
    type : int
        The driver's number for the kind.
    data : bytes
        What the driver answered in the place of the data that it was given.
    """

    _made_by = "context.viommu(device, parent, type)"
    _kind = "vIOMMU"
    device: Device
    parent: Hwpt
    type: int
    data: bytes

    def vdevice(self, device: Device, virt_id: int) -> Vdevice:
        """Say by which id the guest knows a device."""
        self._check()
        device._h.check_open()
        guest = machines.as_u64(virt_id, "virt_id")
        what = f"cannot give {device.name} the id {guest:#x} on {self._what()}"
        number = check(core.vdevice_alloc(self.context._h, self.id, device.id, guest), "vdevice", what)
        made = Vdevice._new(context=self.context, id=number, viommu=self, device=device, virt_id=guest)
        return self.context._keep(made)

    def events(self, type: int, depth: int = 1024, size: int | None = None) -> EventQueue:
        """Open the queue of the guest's events of one type.

        Parameters
        ----------
        type : int
            The driver's number; there is one queue of each.
        depth : int
            How many events it holds until some are lost, up to 2**19.
        size : int, optional
            Bytes of an event's data, when all have as many. Reading is faster then; the types of the contract
            (SMMUv3, CMDQV) are known.
        """
        self._check()
        kind, room = machines.as_u64(type, "type", 0xFFFFFFFF), machines.as_u64(depth, "depth", 0xFFFFFFFF)
        if size is not None:
            machines.as_u64(size, "size", 1 << 16)
        what = f"a queue of events of type {kind:#x} on {self._what()}"
        answer = core.veventq_alloc(self.context._h, self.id, kind, room)
        number, fd = check(answer, "events", f"cannot open {what}")
        fields = {"viommu": self, "type": kind, "depth": room, "_next": 0, "_size": size or _EVENT_SIZES.get(kind)}
        return self.context._keep(EventQueue._open(what, fd, context=self.context, id=number, **fields))

    def hw_queue(self, type: int, index: int, iova: int, length: int) -> HwQueue:
        """Give the hardware a queue in the guest's memory, at `iova` of the parent's address space.

        The memory must be contiguous for the hardware and stays mapped as long as the queue exists (unmapping: EBUSY).
        """
        self._check()
        kind, place = machines.as_u64(type, "type", 0xFFFFFFFF), machines.as_u64(index, "index", 0xFFFFFFFF)
        start, size = machines.as_u64(iova, "iova"), machines.as_u64(length, "length")
        what = f"cannot make hardware queue {place} of {self._what()} at IOVA {start:#x}"
        answer = core.hw_queue_alloc(self.context._h, self.id, kind, place, start, size)
        fields = {"context": self.context, "id": check(answer, "hw_queue", what)}
        return self.context._keep(HwQueue._new(viommu=self, type=kind, index=place, **fields))

    def invalidate(self, data_type: Invalidation, entries: Any = None, entry_length: int | None = None) -> int:
        """Pass a guest's invalidation commands on (SMMUv3: `Smmuv3Command`); as `Hwpt.invalidate`."""
        return invalidate(self, data_type, entries, entry_length)

    def _holders(self) -> list[str]:
        parts = [repr(o) for o in list(self.context._objects.values()) if getattr(o, "viommu", None) is self]
        return parts + [f"HWPT {h.id}" for h in list(self.context._hwpts.values()) if h.parent is self]


class Vdevice(ContextObject):
    """A device as a guest knows it. Goes with its device, too; its id is then never used again in the context."""

    _made_by = "viommu.vdevice(device, virt_id)"
    _kind = "vDEVICE"
    viommu: Viommu
    device: Device
    virt_id: int


class HwQueue(ContextObject):
    """A hardware queue in a guest's memory. Those of one vIOMMU may depend on each other."""

    _made_by = "viommu.hw_queue(type, index, iova, length)"
    _kind = "hardware queue"
    viommu: Viommu
    type: int
    index: int


class Region(RegionCore):
    """Memory of a vIOMMU that is mapped here, made by `Iommufd.mmap`. Use it as a buffer: ``memoryview(region)``."""

    def __enter__(self) -> Region:
        if self.closed:
            raise ValueError(f"{self!r} is closed")
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Region: {self.size:#x} bytes at offset {self.offset:#x}{', closed' if self.closed else ''}>"
