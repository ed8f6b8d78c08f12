# SPDX-License-Identifier: Apache-2.0
"""Real devices: what VFIO gives of one, bound to a context of the kernel's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from iommufd_fast import uapi_vfio as vfio
from iommufd_fast._core import machines
from iommufd_fast._core.commands import DeviceHandle
from iommufd_fast._core.kernelfile import open_device
from iommufd_fast._core.mmio import RegionCore
from iommufd_fast.device import Device
from iommufd_fast.errors import IommufdError, check, failed
from iommufd_fast.interrupts import Interrupts
from iommufd_fast.ioas import Ioas

if TYPE_CHECKING:
    from iommufd_fast.context import Iommufd
    from iommufd_fast.hwpt import Hwpt

_GROUPS = Path("/sys/kernel/iommu_groups")


@dataclass(frozen=True, slots=True)
class VfioDevice:
    """Which real device to bind.

    Attributes
    ----------
    device : str, path or int
        A PCI address ("0000:01:00.0"), a vfio-dev name ("vfio0"), the path of its file ("/dev/vfio/devices/vfio0"), or
        an open descriptor of that, which belongs to the device handle from then on.
    group : int, optional
        The number of its IOMMU group, when only a descriptor is given and sysfs cannot be asked.
    """

    device: str | os.PathLike[str] | int
    group: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.device, bool) or not isinstance(self.device, (str, os.PathLike, int)):
            raise TypeError(f"device must be a name, a path or a descriptor, not {type(self.device).__name__}")
        if self.group is not None:
            machines.as_u64(self.group, "group", 0x7FFFFFFF)

    def __str__(self) -> str:
        return f"descriptor {self.device}" if isinstance(self.device, int) else os.fspath(self.device)


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """A region as the device's file describes it; `areas` are the (start, end) that may be mapped."""

    index: int
    flags: vfio.RegionFlag
    size: int
    offset: int
    areas: tuple[tuple[int, int], ...]


class DeviceRegion(RegionCore):
    """Registers or memory of a device, made by `KernelDevice.region`.

    ``read8`` to ``write64`` are one access of exactly that width, checked against the bounds; ``memoryview(region)``
    is for bulk.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        how = "closed" if self.closed else "mapped" if self.mapped else "not mapped"
        return f"<DeviceRegion {self.index}: {self.size:#x} bytes, {how}>"


class KernelDevice(Device):
    """A real device, made by ``context.bind(VfioDevice(...))``: a `Device` with registers and interrupts."""

    _made_by = "context.bind(VfioDevice(...))"
    _regions: dict[int, DeviceRegion]
    _irqs: set[Interrupts]

    # -- registers ----------------------------------------------------------------------------------------------------

    def region_info(self, index: int) -> RegionInfo:
        """What VFIO_DEVICE_GET_REGION_INFO tells."""
        number, size = machines.as_u64(index, "index", 0xFFFFFFFF), vfio.REGION_INFO.itemsize
        for _ in range(2):  # a second time when there is more to tell
            room = np.zeros(size, np.uint8)
            info = room[: vfio.REGION_INFO.itemsize].view(vfio.REGION_INFO)
            info["argsz"], info["index"] = size, number
            err = self._h.ioctl(vfio.Command.GET_REGION_INFO, room.data)
            check(err, "kernel region", f"{self.name} has no region {number}")
            size = int(info["argsz"][0])
            if size <= len(room):
                break
        flags, total = vfio.RegionFlag(int(info["flags"][0])), int(info["bytes"][0])
        return RegionInfo(number, flags, total, int(info["offset"][0]), _areas(room, flags, total))

    def region(self, index: int) -> DeviceRegion:
        """A region: a PCI device has its BARs as 0 to 5, its configuration space as 7. The same object each time."""
        self._h.check_open()
        made = self._regions.get(index)
        if made is not None and not made.closed:
            return made
        info = self.region_info(index)
        if not info.size:
            raise ValueError(f"region {index} of {self.name} is empty: the device does not have it")
        start, end = max(info.areas, key=lambda a: a[1] - a[0], default=(0, 0))
        made = DeviceRegion.__new__(DeviceRegion)
        err = made._begin(self._h, index, info.flags, info.size, info.offset, start, end)
        check(err, "kernel region", f"cannot map region {index} of {self.name}")
        known = self._regions.setdefault(index, made)
        if known is not made and known.closed:
            self._regions[index] = known = made
        return known

    @property
    def config(self) -> DeviceRegion:
        """The PCI configuration space."""
        return self.region(vfio.PciRegion.CONFIG)

    @property
    def bus_master(self) -> bool:
        """Whether the device may issue DMA and message interrupts. Off until it is set."""
        return bool(self.config.read16(4) & 4)

    @bus_master.setter
    def bus_master(self, on: bool) -> None:
        command = self.config.read16(4)
        self.config.write16(4, command | 4 if on else command & ~4)

    def reset(self) -> None:
        """Reset the device: DMA under way ends, registers are as at power-on, the bus master is off."""
        check(self._h.ioctl(vfio.Command.RESET), "kernel reset", f"cannot reset {self.name}")

    # -- interrupts ---------------------------------------------------------------------------------------------------

    def irq_count(self, kind: str | int) -> int:
        """How many vectors of a kind ("intx", "msi", "msix", or an index) the device has."""
        room = np.zeros((), vfio.IRQ_INFO)
        room["argsz"], room["index"] = room.itemsize, _kind(kind)
        check(
            self._h.ioctl(vfio.Command.GET_IRQ_INFO, room.data), "kernel irq", f"{self.name} has no interrupts {kind!r}"
        )
        return int(room["count"])

    def interrupts(self, kind: str | int | None = None, count: int | None = None) -> Interrupts:
        """Turn interrupts on.

        Parameters
        ----------
        kind : {"msix", "msi", "intx"} or int, optional
            By default the first of these that the device has. One kind can be on at a time.
        count : int, optional
            Vectors, from 0 on; all by default.
        """
        if kind is None:
            kind = next((k for k in ("msix", "msi", "intx") if self.irq_count(k)), "intx")
        have = self.irq_count(kind)
        wanted = have if count is None else machines.as_u64(count, "count", 4096)
        if not 0 < wanted <= have:
            raise ValueError(f"{self.name} has {have} interrupts {kind!r}, not {wanted}")
        made = Interrupts._open(self, _kind(kind), wanted)
        self._irqs.add(made)
        return made

    # -- life ---------------------------------------------------------------------------------------------------------

    def _not_attached(self, err: int, what: str, target: Ioas | Hwpt) -> IommufdError:
        from iommufd_fast.remedies import memlock

        ioas = target if isinstance(target, Ioas) else target.ioas
        size = sum(m.length for m in ioas.mappings())
        return failed(err, "kernel attach", what, memlock=memlock(size), meeting=_meeting(ioas, self.group))

    def close(self) -> None:
        """Turn interrupts off, unmap regions, detach and unbind. Again is fine."""
        for irqs in list(self._irqs):
            irqs.close()
        for region in list(self._regions.values()):
            region.close()
        super().close()


def _kind(kind: str | int) -> int:
    if isinstance(kind, str):
        if kind not in Interrupts.KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, Interrupts.KINDS))} or an index, not {kind!r}")
        return Interrupts.KINDS[kind]
    return machines.as_u64(kind, "kind", 0xFFFFFFFF)


def _areas(room: np.ndarray, flags: vfio.RegionFlag, size: int) -> tuple[tuple[int, int], ...]:
    """The parts that may be mapped: all of it, unless a capability names some."""
    if not flags & vfio.RegionFlag.MMAP or not size:
        return ()
    at = int(room[: vfio.REGION_INFO.itemsize].view(vfio.REGION_INFO)["cap_offset"][0])
    while flags & vfio.RegionFlag.CAPS and 0 < at <= len(room) - 16:
        cap = room[at : at + vfio.CAP.itemsize].view(vfio.CAP)[0]
        if cap["id"] == vfio.SPARSE_CAP:
            n = int(room[at + 8 : at + 12].view("u4")[0])
            list_ = room[at + 16 : at + 16 + n * vfio.AREA.itemsize].view(vfio.AREA)
            return tuple((int(a["offset"]), int(a["offset"] + a["bytes"])) for a in list_)
        at = int(cap["next"])
    return ((0, size),)


def _meeting(ioas: Ioas, group: int) -> str:
    """Which mapping is in the way of a device's reserved regions, as far as sysfs tells them."""
    try:
        lines = (_GROUPS / str(group) / "reserved_regions").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:
        start, last, kind = line.split()[:3]
        found = ioas.context._h.mapping(ioas.id, int(start, 16), int(last, 16))
        if not isinstance(found, int) and kind != "direct-relaxable":
            return (
                f"the mapping at IOVA {found[0]:#x}–{found[1]:#x} lies in the device's reserved region {start}–{last} "
                f"({kind}); unmap it, and map it again after the device is attached"
            )
    highest = max(ioas.mappings(), key=lambda m: m.last, default=None)
    if highest is None:
        return "what allow() permits lies in reserved regions of the device, or outside its aperture"
    return (
        f"a mapping lies outside the device's aperture (the highest is at IOVA {highest.iova:#x}–{highest.last:#x}), "
        "or is not aligned to its pages; unmap it first"
    )


def bind_vfio(context: Iommufd, device: VfioDevice) -> KernelDevice:
    """`Iommufd.bind` for a real device."""
    if not context._h.kernel:
        raise ValueError(f"{device!r} is a kernel's device; {context!r} is an engine: open one with iof.open('kernel')")
    handle, what = DeviceHandle(), f"cannot open {device}"
    where = device.device if isinstance(device.device, int) else os.fspath(device.device)
    check(open_device(handle, context._h, where, device.group, str(device)), "kernel vfio", what)
    number = handle.bind(context._h)
    if number < 0:
        handle.close()
        raise failed(number, "kernel bind", f"cannot bind {device}")
    index, group = check(context._h.endpoints(number, 0), "endpoints", f"no endpoints of {device}")[0][4:6]
    fields = {"context": context, "id": number, "index": index, "group": group, "_h": handle}
    made = KernelDevice._new(**fields, _asking=set(), _regions={}, _irqs=set())
    context._devices[number] = made
    return made
