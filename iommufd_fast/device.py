# SPDX-License-Identifier: Apache-2.0
"""Devices: bound to one context, attached to one address space at a time, and able to do DMA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iommufd_fast import uapi
from iommufd_fast._core import dma, machines
from iommufd_fast._core import objects as core
from iommufd_fast._core.commands import DeviceHandle
from iommufd_fast._handle import Owned
from iommufd_fast.endpoint import Endpoint, endpoints_of
from iommufd_fast.errors import IommufdError, check, failed
from iommufd_fast.hwpt import Hwpt
from iommufd_fast.ioas import Ioas

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from iommufd_fast.context import Iommufd
    from iommufd_fast.hwinfo import HwInfo

Segments = Sequence[tuple[int, int]]
Request = bool | float | None


def _pasid(pasid: int | None) -> int:
    """The command's number; 0 is its word for the requester id, which is no PASID here."""
    number = 0 if pasid is None else machines.as_u64(pasid, "pasid", 0xFFFFFFFF)
    if pasid is not None and not number:
        raise ValueError("pasid 0 is the device's own requester id: leave pasid out")
    return number


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What DEVICE_GET_INFO tells."""

    flags: int
    num_regions: int
    num_irqs: int
    cap_offset: int


class Device(Owned):
    """A device bound to a context, made by `Iommufd.bind`. Closing detaches and unbinds it.

    Everything may be called from any thread; DMA runs without the GIL.
    """

    _made_by = "context.bind(SoftDevice(...))"
    context: Iommufd
    id: int
    index: int
    group: int
    _h: DeviceHandle
    _asking: set[object]  # calls that may raise page requests

    @property
    def name(self) -> str:
        """The machine's name for it."""
        return self._h.name

    @property
    def closed(self) -> bool:
        """Whether it was closed, by itself or with its context."""
        return self._h.closed

    # -- attachment ---------------------------------------------------------------------------------------------------

    def attach(self, target: Ioas | Hwpt, *, pasid: int | None = None) -> Hwpt:
        """Let the device reach what is mapped in an IOAS; if it is attached already, switch over.

        Switching acts on all devices of the group at once. DMA that runs meanwhile sees the old or the new address
        space.

        Parameters
        ----------
        target : Ioas or Hwpt
            An IOAS gets a fitting page table automatically.
        pasid : int, optional
            Attach this PASID of the device, from 1 on, instead of the device itself: an endpoint of its own. The page
            tables of both must have been made with ``HwptFlag.PASID``.

        Returns
        -------
        Hwpt
            The page table that it is attached to now.
        """
        self._h.check_open()
        if not isinstance(target, (Ioas, Hwpt)):
            raise TypeError(f"target must be an Ioas or a Hwpt, not {type(target).__name__}")
        if target.closed:
            raise ValueError(f"{target!r} is closed")
        if target.context is not self.context:
            raise ValueError(f"{target!r} belongs to another context than {self!r}")
        number = self._h.attach(target.id, _pasid(pasid))
        self.context._sweep_automatic()
        if number < 0:
            raise self._not_attached(number, f"cannot attach {self._who(pasid)} to {target!r}", target)
        return self.context._hwpt_by_id(number)

    def _not_attached(self, err: int, what: str, target: Ioas | Hwpt) -> IommufdError:
        return failed(err, "attach", what)

    def replace(self, target: Ioas | Hwpt, *, pasid: int | None = None) -> Hwpt:
        """Do what `attach` does on an attached device."""
        return self.attach(target, pasid=pasid)

    def detach(self, *, pasid: int | None = None) -> None:
        """Block DMA of the device, or of one of its PASIDs. Again is fine. When it returns, none is under way."""
        err = self._h.detach(_pasid(pasid))
        self.context._sweep_automatic()
        check(err, "detach", f"cannot detach {self._who(pasid)}")

    def _who(self, pasid: int | None) -> str:
        return self.name if pasid is None else f"pasid {pasid} of {self.name}"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Its requester id, which is always there, then the PASIDs that are attached."""
        self._h.check_open()
        listed = self.context._h.endpoints(self.id, 0)
        return endpoints_of(check(listed, "endpoints", f"no endpoints of {self.name}"))

    @property
    def hwpt(self) -> Hwpt | None:
        """The page table that translates its DMA; None while blocked."""
        number = next((e.hwpt_id for e in self.endpoints if e.pasid is None), None)
        return self.context._hwpt_by_id(number) if number else None

    @property
    def ioas(self) -> Ioas | None:
        """The address space that it reaches; None while blocked."""
        hwpt = self.hwpt
        return hwpt.ioas if hwpt else None

    @property
    def hw_info(self) -> HwInfo:
        """What GET_HW_INFO tells of the IOMMU behind it."""
        self._h.check_open()
        from iommufd_fast.hwinfo import hw_info

        answer = core.hw_info(self.context._h, self.id)
        return hw_info(*check(answer, "hw_info", f"no hardware information about {self.name}"))

    @property
    def info(self) -> DeviceInfo:
        """What DEVICE_GET_INFO tells."""
        return DeviceInfo(*check(self._h.info(), "info", f"no information about {self.name}"))

    def ioctl(self, cmd: int, buffer: Buffer | None = None) -> int:
        """The raw door: a command with its struct, as on a device file (see `iommufd_fast.uapi`)."""
        result = self._h.ioctl(cmd, buffer)
        if cmd in (uapi.Command.DEVICE_ATTACH_PT, uapi.Command.DEVICE_DETACH_PT):
            self.context._sweep_automatic()
        if result < 0:
            raise failed(result, "ioctl", f"command {int(cmd):#x} on {self.name}")
        return result

    # -- DMA ----------------------------------------------------------------------------------------------------------

    def dma_read(
        self, iova: int | Segments, length: int | None = None, *, pasid: int | None = None, request: Request = False
    ) -> bytes:
        """Read memory as the device does.

        Parameters
        ----------
        iova : int, or sequence of (iova, length)
            Where; a sequence is a scatter-gather list.
        length : int
            Bytes; not with a list.
        pasid : int, optional
            As which endpoint; by default the device itself. All dma_ functions have it.
        request : bool, float or None
            On a page table with a fault queue: ask for a page that is missing, wait for the answer, and try again. So
            many seconds; True or None: as long as it takes. By default the DMA stops. All dma_ functions have it.

        Raises
        ------
        DmaFault
            The page table, or the memory behind it, stopped it.
        """
        if length is None and hasattr(iova, "__index__"):
            raise TypeError("reading at one IOVA needs a length")
        return self._dma(dma.read, request, iova, length, pasid)

    def dma_read_into(
        self, iova: int | Segments, buffer: Buffer, *, pasid: int | None = None, request: Request = False
    ) -> None:
        """Read into a writable buffer; its size must be the sum of the lengths. After a fault it is partly filled."""
        self._dma(dma.read_into, request, iova, buffer, pasid)

    def dma_write(
        self, iova: int | Segments, data: Buffer, *, pasid: int | None = None, request: Request = False
    ) -> None:
        """Write memory as the device does. Before a fault, ``DmaFault.done`` bytes were written."""
        self._dma(dma.write, request, iova, data, pasid)

    def dma_fill(
        self, iova: int, length: int, byte: int = 0, *, pasid: int | None = None, request: Request = False
    ) -> None:
        """Fill memory with one byte."""
        self._dma(dma.fill, request, iova, length, byte, pasid)

    def dma_copy(self, dst: int, src: int, length: int, *, pasid: int | None = None, request: Request = False) -> None:
        """Copy inside the device's address space."""
        self._dma(dma.copy, request, dst, src, length, pasid)

    def _dma(self, call: Callable[..., Any], request: Request, *args: Any) -> Any:
        if request is False:
            return call(self._h, *args)
        ticket = object()
        self._asking.add(ticket)
        try:
            return call(self._h, *args, request)
        finally:
            self._asking.discard(ticket)

    # -- life ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Detach and unbind. Again is fine; in a forked child nothing happens to the parent's device."""
        if self.closed:
            return
        forked = self._h.forked
        if self._asking and not forked and not self.context.closed:
            self._end_requests()
        if not self._h.close():
            return  # another thread does it
        if forked:
            self.context._devices.pop(self.id, None)
        else:
            self.context._names.drop(self.context._devices, self)
            self.context._device_gone(self)
            self.context._sweep_automatic()

    def _end_requests(self) -> None:
        """Detach: a DMA that waits for the answer to a page request, maybe for ever, would keep the device open."""
        for endpoint in self.endpoints:
            if not endpoint.blocked:
                self._h.detach(endpoint.pasid or 0)

    def __repr__(self) -> str:
        if self._h.forked:
            return f"<Device {self.name} of the parent process>"
        if self.closed:
            return f"<Device {self.name}, closed>"
        return f"<Device {self.id}: {', '.join(map(str, self.endpoints))}>"
