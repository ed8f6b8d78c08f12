# SPDX-License-Identifier: Apache-2.0
"""Contexts: one open iommufd. It owns all ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from iommufd_fast import uapi
from iommufd_fast._core import machines
from iommufd_fast._core.commands import ContextHandle, DeviceHandle
from iommufd_fast._core.handles import sweep
from iommufd_fast._handle import Followers, Owned, Tables, by_id
from iommufd_fast.device import Device
from iommufd_fast.endpoint import Endpoint, endpoints_of
from iommufd_fast.errors import check, failed
from iommufd_fast.hwpt import Hwpt
from iommufd_fast.ioas import LAST, Ioas
from iommufd_fast.machine import Machine, MachineDevice, SoftDevice
from iommufd_fast.making import Maker
from iommufd_fast.objects import ContextObject

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from iommufd_fast.access import Access
    from iommufd_fast.kernel import KernelDevice, VfioDevice
    from iommufd_fast.records import ContextStats


class Iommufd(Maker, Owned):
    """An open context, made by `open` or `Machine.open`.

    It keeps its devices, IOASes and page tables until they or it are closed, so none is lost by forgetting a
    variable.
    Everything may be called from any thread.
    """

    _made_by = "iommufd_fast.open() or machine.open()"
    _warns = True
    machine: Machine | None
    why: str = "the engine was asked for"
    _devices: dict[int, Device]
    _ioases: dict[int, Ioas]

    @classmethod
    def _open(cls, machine: Machine) -> Self:
        handle = ContextHandle()
        check(handle.open_on(machine._core, None, "context"), "open", f"cannot open a context on {machine!r}")
        tables: dict = {name: {} for name in ("_devices", "_ioases", "_hwpts", "_objects")}
        return cls._new(_h=handle, machine=machine, _accesses=set(), _regions=Followers(), _names=Tables(), **tables)

    @property
    def provider(self) -> str:
        """What is behind it: "engine" or "kernel"; `why` says why that one."""
        return "kernel" if self._h.kernel else "engine"

    # -- making things ------------------------------------------------------------------------------------------------

    @overload
    def bind(self, device: VfioDevice) -> KernelDevice: ...
    @overload
    def bind(self, device: SoftDevice | MachineDevice | int) -> Device: ...
    def bind(self, device: VfioDevice | SoftDevice | MachineDevice | int) -> Device:
        """Claim a device, and with it the DMA of its whole group, for this context.

        Parameters
        ----------
        device : SoftDevice, MachineDevice or int; VfioDevice
            In the engine a description (see `SoftDevice`), or a device of this context's machine or its index. On a
            kernel a `VfioDevice`.

        Raises
        ------
        NotPermitted
            Another context owns a device of the same group.
        Invalid
            The device is open already.
        """
        self._h.check_open()
        if not isinstance(device, (SoftDevice, MachineDevice, int)):
            from iommufd_fast.kernel import VfioDevice, bind_vfio

            if isinstance(device, VfioDevice):
                return bind_vfio(self, device)
        machine = self._engine()
        with machine._plugging:
            found = self._choose(machine, device)
            handle = DeviceHandle()
            err = handle.open_on(machine._core, found.index, found.name)
        what = f"cannot bind {found.name} (group {found.group})"
        check(err, "bind", what)
        number = handle.bind(self._h)
        if number < 0:
            handle.close()
            raise failed(number, "bind", what)
        made = Device._new(context=self, id=number, index=found.index, group=found.group, _h=handle, _asking=set())
        self._names.put(self._devices, made)
        return made

    def ioas(self) -> Ioas:
        """Make an address space."""
        made = Ioas._new(self, check(self._h.ioas_alloc(), "ioas", f"cannot make an IOAS in {self._h.name}"))
        self._names.put(self._ioases, made)
        return made

    def destroy(self, number: int) -> None:
        """Destroy an object by its id (IOMMU_DESTROY). Its handle, if there is one, is closed."""
        handle = self._named(machines.as_u64(number, "id", 0xFFFFFFFF))
        err = self._h.destroy(number)
        if err < 0:
            raise failed(err, "destroy", f"cannot destroy object {number} of {self._h.name}", holders="")
        self._lost(handle)

    # -- the raw door -------------------------------------------------------------------------------------------------

    def ioctl(self, cmd: int, buffer: Buffer | None = None) -> int:
        """The raw door: a numbered command with its struct (see `iommufd_fast.uapi`), as on the real file.

        Parameters
        ----------
        cmd : int
            For example ``uapi.Command.IOAS_MAP``.
        buffer : writable buffer
            The struct. It is read and written back. Pointers inside are the caller's business.

        Returns
        -------
        int
            0 or more.

        Notes
        -----
        Handles see what happens here: a Mapping unmapped this way is stale, an object destroyed this way is closed.
        """
        before = b"" if buffer is None else bytes(memoryview(buffer).cast("B")[:24])
        destroys = cmd == uapi.Command.DESTROY and len(before) >= 8
        named = self._named(int(np.frombuffer(before[:8], uapi.DESTROY)[0]["id"])) if destroys else None
        result = self._h.ioctl(cmd, buffer)
        if destroys and result == 0:
            self._lost(named)
        elif cmd == uapi.Command.IOAS_UNMAP and len(before) == 24:
            self._unmapped(np.frombuffer(before, uapi.IOAS_UNMAP)[0])
        if result < 0:
            raise failed(result, "ioctl", f"command {int(cmd):#x} on {self._h.name}")
        return result

    def _unmapped(self, command: np.void) -> None:
        ioas = self._ioases.get(int(command["ioas_id"]))
        if ioas is not None:
            start = int(command["iova"])
            sweep(ioas, start, min(start + max(int(command["length"]), 1) - 1, LAST))

    # -- keeping handles true -----------------------------------------------------------------------------------------

    def _named(self, number: int) -> Ioas | ContextObject | None:
        """The handle of an id. Asked before the object is destroyed: afterwards the id may be another's at once."""
        return self._ioases.get(number) or self._hwpts.get(number) or self._objects.get(number)

    def _lost(self, handle: Ioas | ContextObject | None) -> None:
        """An object is no more."""
        if handle is None:
            return
        for table in self._tables():
            self._names.drop(table, handle)
        handle._end("was destroyed")

    def _tables(self) -> tuple[dict[int, Any], ...]:
        return self._ioases, self._hwpts, self._objects

    def _sweep_automatic(self) -> None:
        """After an attachment changed: automatic page tables that went with it."""
        for number, handle in list(self._hwpts.items()):
            if handle.automatic:
                try:
                    stats = self._h.hwpt_stats(number)
                except ValueError:  # closed, perhaps right now
                    return
                if isinstance(stats, int) or not stats["automatic"] or stats["ioas_id"] != handle.ioas.id:
                    self._lost(handle)

    def _hwpt_by_id(self, number: int) -> Hwpt:
        """The handle of a page table; a new one if it was made automatically or through the raw door."""
        known = self._hwpts.get(number)
        if known is None:
            what = f"cannot find HWPT {number} of {self._h.name}"
            stats = check(self._h.hwpt_stats(number), "hwpt_stats", what)
            ioas = self._ioas_by_id(stats["ioas_id"])
            known = Hwpt._new(context=self, id=number, ioas=ioas, automatic=stats["automatic"])
            known = self._hwpts.setdefault(number, known)
        return known

    def _ioas_by_id(self, number: int) -> Ioas:
        known = self._ioases.get(number)
        return known or self._ioases.setdefault(number, Ioas._new(self, number))

    # -- what is there ------------------------------------------------------------------------------------------------

    @property
    def devices(self) -> tuple[Device, ...]:
        """Devices that are bound, by id."""
        return by_id(self._devices)

    @property
    def ioases(self) -> tuple[Ioas, ...]:
        """Address spaces, by id."""
        return by_id(self._ioases)

    @property
    def hwpts(self) -> tuple[Hwpt, ...]:
        """Page tables, by id, automatic ones too."""
        for endpoint in self.endpoints:
            if endpoint.hwpt_id is not None:
                self._hwpt_by_id(endpoint.hwpt_id)
        return by_id(self._hwpts)

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Accesses that are open, by id."""
        return tuple(sorted(self._accesses, key=lambda a: a.id))

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All that can issue DMA in this context."""
        return endpoints_of(check(self._h.endpoints(0, 0), "endpoints", f"no endpoints of {self._h.name}"))

    @property
    def rlimit_mode(self) -> int:
        """Who pays for pinned memory: 0 the user, 1 the process. Can only be set before objects are made."""
        value = self._h.option(uapi.Option.RLIMIT_MODE, uapi.OptionOp.GET, 0, 0)
        return check(value, "rlimit_mode", f"cannot read the mode of {self._h.name}")

    @rlimit_mode.setter
    def rlimit_mode(self, mode: int) -> None:
        value = self._h.option(uapi.Option.RLIMIT_MODE, uapi.OptionOp.SET, 0, machines.as_u64(mode, "rlimit_mode"))
        check(value, "rlimit_mode", f"cannot set the mode of {self._h.name} to {mode}")

    def stats(self) -> ContextStats:
        """Counters of this moment."""
        from iommufd_fast.records import ContextStats

        each = [ioas.stats() for ioas in self.ioases]
        totals = (sum(s.mappings for s in each), sum(s.bytes_mapped for s in each))
        return ContextStats(len(self._devices), len(self.endpoints), len(each), len(self.hwpts), *totals)

    def digest(self) -> int:
        """A number that is equal for equal observable states, for tests."""
        return check(self._h.digest(), "digest", f"no digest of {self._h.name}")

    def fileno(self) -> int:
        """The number by which DEVICE_BIND_IOMMUFD names this context. The engine's is not a file descriptor."""
        return self._h.fileno()

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._h.closed

    def _forked(self) -> bool:
        return self._h.forked

    def close(self) -> None:
        """Close the devices, then the context with everything in it. Again is fine.

        Mappings become stale and their memory is let go. In a forked child the parent's context is left alone.

        Raises
        ------
        BufferError
            Views of memory that an access has pinned are still in use; nothing was closed but accesses.
        """
        if self.closed:
            return
        if self._h.forked:
            self._close_all(forked=True)
            return
        with self._names.closing(self) as mine:
            if mine:
                self._close_all(forked=False)

    def _close_all(self, forked: bool) -> None:
        if not forked:
            self._close_files()
        for device in self.devices:
            device.close()
        self._h.close()
        handles: list[Ioas | ContextObject] = [*self._ioases.values(), *self._hwpts.values(), *self._objects.values()]
        for table in self._tables():
            table.clear()
        for handle in handles if not forked else ():
            handle._end("was closed with its context")

    def __repr__(self) -> str:
        if self.closed or self._h.forked:
            return f"<Iommufd {self._h.name}, {'closed' if self.closed else 'of the parent process'}>"
        where = repr(self.machine) if self.machine else "the kernel"
        return f"<Iommufd {self._h.name}: {len(self._devices)} devices, {len(self._ioases)} IOASes on {where}>"
