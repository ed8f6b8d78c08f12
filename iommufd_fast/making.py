# SPDX-License-Identifier: Apache-2.0
"""What a context makes beyond devices and address spaces."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Self, TypeVar

from iommufd_fast import uapi
from iommufd_fast._core import machines
from iommufd_fast._core import objects as core
from iommufd_fast._core.commands import ContextHandle
from iommufd_fast._handle import Followers, Tables
from iommufd_fast.device import Device
from iommufd_fast.errors import check, failed
from iommufd_fast.hwpt import Hwpt
from iommufd_fast.ioas import Ioas
from iommufd_fast.machine import Machine, MachineDevice, SoftDevice
from iommufd_fast.objects import ContextObject

if TYPE_CHECKING:  # what few programs use is imported where it is used: importing the package shall be quick
    from typing_extensions import Buffer, CapsuleType

    from iommufd_fast.access import Access, OnUnmap
    from iommufd_fast.context import Iommufd
    from iommufd_fast.faults import FaultQueue
    from iommufd_fast.guest import GuestData
    from iommufd_fast.viommu import Region, Viommu

Made = TypeVar("Made", bound=ContextObject)


class Maker:
    """The part of `Iommufd` that makes page tables, queues, vIOMMUs, accesses and mappings of its file."""

    _h: ContextHandle
    _ioases: dict[int, Ioas]
    _hwpts: dict[int, Hwpt]
    _objects: dict[int, ContextObject]
    _accesses: set[Access]
    _regions: Followers
    _names: Tables

    @classmethod
    def _open_kernel(
        cls, where: str | int, iova: str, why: str, over: Machine | None = None, null: bool = False
    ) -> Self:
        """Open /dev/iommu; `over` and `null` bring something else in its place, for tests and measurements."""
        from iommufd_fast._core import kernelfile

        handle = ContextHandle()
        err = kernelfile.open_context(handle, where, iova, over._core if over else None, null)
        check(err, "kernel open", f"cannot open {where if isinstance(where, str) else f'descriptor {where}'}")
        tables: dict = {name: {} for name in ("_devices", "_ioases", "_hwpts", "_objects")}
        return cls._new(  # type: ignore[attr-defined]
            _h=handle, machine=None, why=why, _accesses=set(), _regions=Followers(), _names=Tables(), **tables
        )

    def _engine(self: Iommufd) -> Machine:  # type: ignore[misc]
        if self.machine is None:
            raise failed(errno.EOPNOTSUPP, "kernel bind", f"{self._h.name} is a kernel's, which has no soft devices")
        return self.machine

    def _choose(  # type: ignore[misc]
        self: Iommufd, machine: Machine, device: SoftDevice | MachineDevice | int
    ) -> MachineDevice:
        """The machine's device that is meant; the caller holds the plugging lock."""
        if isinstance(device, MachineDevice):
            return machine._device(device.index)
        if not isinstance(device, SoftDevice):
            return machine._device(machines.as_u64(device, "device", 0xFFFFFFFE))
        if device.machine is not None and device.machine is not machine:
            raise ValueError(f"{device!r} is on another machine than {self!r}")
        if device.index is not None:
            return machine._device(device.index)
        devices = machine.devices
        taken = {d.group for d in devices if d.bound or d.open}
        free = [d for d in devices if d.preset == device.preset and not d.open and d.group not in taken]
        return free[0] if free else machine.plug(device.preset)

    def _keep(self, made: Made) -> Made:
        self._names.put(self._objects, made)
        return made

    def _own(self: Iommufd, **handles: Device | Ioas | ContextObject) -> None:  # type: ignore[misc]
        """Refuse handles that are closed, or another context's."""
        for name, handle in handles.items():
            if handle.closed:
                raise ValueError(f"{name} {handle!r} is closed")
            if handle.context is not self:
                raise ValueError(f"{name} {handle!r} must belong to this context")
        self._h.check_open()

    def hwpt(  # type: ignore[misc]
        self: Iommufd,
        device: Device,
        target: Ioas | Hwpt | Viommu,
        flags: int = 0,
        *,
        data: tuple[int, Buffer] | GuestData | None = None,
        fault: FaultQueue | None = None,
    ) -> Hwpt:
        """Make a page table of the device's kind, to attach devices to explicitly.

        Parameters
        ----------
        target : Ioas, Hwpt or Viommu
            An IOAS feeds the page table. On a page table that was made with NEST_PARENT, or on a vIOMMU, a *nested* one
            is made, which holds a guest's.
        flags : uapi.HwptFlag
            NEST_PARENT, DIRTY_TRACKING, PASID (its devices may use PASIDs); FAULT_ID_VALID is set by `fault`.
        data : VtdStage1, AmdGuest, Smmuv3Stage1 or (int, buffer), optional
            What nested page tables need: where the guest's is. Or a driver's number for a layout, and its struct.
        fault : FaultQueue, optional
            Where page requests of devices that are attached to it go.

        Raises
        ------
        NotSupported
            The device's IOMMU cannot do what flags or data ask for.
        """
        from iommufd_fast.faults import FaultQueue
        from iommufd_fast.guest import GuestData
        from iommufd_fast.viommu import Viommu

        if not isinstance(device, Device) or not isinstance(target, (Ioas, Hwpt, Viommu)):
            raise TypeError("hwpt() takes a Device and an Ioas, a Hwpt or a Viommu")
        self._own(device=device, target=target)
        bits = machines.as_u64(flags, "flags", 0xFFFFFFFF)
        if fault is not None:
            if not isinstance(fault, FaultQueue):
                raise TypeError(f"fault must be a FaultQueue, not {type(fault).__name__}")
            self._own(fault=fault)
            bits |= uapi.HwptFlag.FAULT_ID_VALID
        kind, struct = (data.kind, data.pack()) if isinstance(data, GuestData) else data or (0, None)
        kind = machines.as_u64(kind, "data[0]", 0xFFFFFFFF)
        answer = core.hwpt_alloc(self._h, bits, device.id, target.id, kind, struct, fault.id if fault else 0)
        number = check(answer, "hwpt", f"cannot make a page table of {target!r} for {device.name}")
        parent = None if isinstance(target, Ioas) else target
        below = target.parent if isinstance(target, Viommu) else target
        ioas = below if isinstance(below, Ioas) else below.ioas
        fields = {"context": self, "id": number, "ioas": ioas, "automatic": False, "parent": parent, "fault": fault}
        made = Hwpt._new(**fields)
        self._names.put(self._hwpts, made)
        return made

    def fault_queue(self: Iommufd) -> FaultQueue:  # type: ignore[misc]
        """Make a queue for page requests of devices; see `hwpt`'s `fault`."""
        from iommufd_fast.faults import FaultQueue

        answer = core.fault_queue_alloc(self._h)
        number, fd = check(answer, "fault_queue", f"cannot make a fault queue in {self._h.name}")
        return self._keep(FaultQueue._open(f"fault queue {number}", fd, context=self, id=number))

    def viommu(  # type: ignore[misc]
        self: Iommufd,
        device: Device,
        parent: Hwpt,
        type: int | None = None,
        *,
        data: Buffer | None = None,
    ) -> Viommu:
        """Make a virtual IOMMU for a device, on a page table that was made with NEST_PARENT.

        Parameters
        ----------
        type : uapi.ViommuType or int, optional
            The kind: the driver's number. By default ARM_SMMUV3, which AMD's driver takes as well.
        data : buffer, optional
            The driver's struct. What it answers is in ``Viommu.data``.

        Raises
        ------
        NotSupported
            The device's IOMMU has no vIOMMUs of that type.
        """
        from iommufd_fast.viommu import Viommu

        if not isinstance(device, Device) or not isinstance(parent, Hwpt):
            raise TypeError("viommu() takes a Device and a Hwpt")
        self._own(device=device, parent=parent)
        type = uapi.ViommuType.ARM_SMMUV3 if type is None else type
        kind, struct = machines.as_u64(type, "type", 0xFFFFFFFF), None if data is None else bytearray(data)
        what = f"cannot make a vIOMMU of type {kind:#x} for {device.name} on {parent!r}"
        number = check(core.viommu_alloc(self._h, kind, device.id, parent.id, struct), "viommu", what)
        fields = {"device": device, "parent": parent, "type": kind, "data": bytes(struct or b"")}
        return self._keep(Viommu._new(context=self, id=number, **fields))

    def access(  # type: ignore[misc]
        self: Iommufd,
        ioas: Ioas | None = None,
        *,
        pin: bool = True,
        on_unmap: OnUnmap | None = None,
    ) -> Access:
        """Use an address space from this process, without an IOMMU: what an emulated device does.

        Parameters
        ----------
        ioas : Ioas, optional
            Attach there at once.
        pin : bool
            Whether memory shall be pinned. If not, only `Access.read` and `Access.write` work.
        on_unmap : callable, optional
            ``on_unmap(access, iova, length)`` is called before memory that may be pinned is unmapped, by the thread
            that unmaps, and may give back pins. Those that it leaves are given back afterwards. An exception in it
            cannot go to the caller and is given to ``sys.unraisablehook``.
        """
        from iommufd_fast.access import Access

        if on_unmap is not None and not callable(on_unmap):
            raise TypeError(f"on_unmap must be callable, not {on_unmap!r}")
        if on_unmap is not None and not pin:
            raise ValueError("on_unmap is for accesses that pin")
        self._h.check_open()
        made = Access._new(self, bool(pin), on_unmap)
        self._accesses.add(made)
        if ioas is not None:
            try:
                made.attach(ioas)
            except BaseException:
                made.close()
                raise
        return made

    def mmap(self: Iommufd, offset: int, length: int) -> Region:  # type: ignore[misc]
        """Map memory that a vIOMMU shares: offset and length as its driver told them."""
        from iommufd_fast.viommu import Region

        start, size = machines.as_u64(offset, "offset"), machines.as_u64(length, "length", (1 << 63) - 1)
        region = Region.__new__(Region)
        check(region._begin(self._h, start, size), "mmap", f"cannot map {size:#x} bytes at offset {start:#x}")
        self._regions.add(region)
        return region

    def change_process(self: Iommufd) -> None:  # type: ignore[misc]
        """Let this process pay for all that is mapped in this context (IOAS_CHANGE_PROCESS).

        Only files can change hands, so no other memory may be mapped in any IOAS. For the process that pays already it
        does nothing.
        """
        check(core.change_process(self._h), "change_process", f"{self._h.name} cannot change hands")

    @property
    def capsule(self: Iommufd) -> CapsuleType:  # type: ignore[misc]
        """A capsule named "struct iof_handle *" for extension modules; valid until this is closed."""
        from iommufd_fast._core.capsules import of_handle

        return of_handle(self._h)

    # -- keeping handles true -----------------------------------------------------------------------------------------

    def _device_gone(self, device: Device) -> None:
        """What the engine destroys with a device."""
        for made in list(self._objects.values()):
            if made._kind == "vDEVICE" and getattr(made, "device", None) is device:
                self._names.drop(self._objects, made)
                made._end("went with its device")

    def _close_files(self) -> None:
        """Before the context is closed: what holds it open, and what must not be used afterwards."""
        for access in list(self._accesses):
            access.close()
        for ioas in list(self._ioases.values()):
            ioas._end_caches()
        for region in list(self._regions):
            region._abandon()
        for made in list(self._objects.values()):
            if made._has_file:
                made._end("was closed with its context")
