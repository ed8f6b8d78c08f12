# SPDX-License-Identifier: Apache-2.0
"""Interrupts of a VFIO device, by eventfd."""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from iommufd_fast import uapi_vfio as vfio
from iommufd_fast._handle import Owned
from iommufd_fast.errors import failed

if TYPE_CHECKING:
    import asyncio

    from iommufd_fast.kernel import KernelDevice

KINDS = {"intx": vfio.PciIrq.INTX, "msi": vfio.PciIrq.MSI, "msix": vfio.PciIrq.MSIX}


def set_irqs(device: KernelDevice, flags: int, index: int, start: int, count: int, data: bytes = b"") -> int:
    """VFIO_DEVICE_SET_IRQS: 0 or a negative errno."""
    head = np.zeros((), vfio.IRQ_SET)
    head["argsz"], head["flags"], head["index"] = vfio.IRQ_SET.itemsize + len(data), flags, index
    head["start"], head["count"] = start, count
    return device._h.ioctl(vfio.Command.SET_IRQS, bytearray(head.tobytes() + data))


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Interrupts(Owned):
    """Vectors of one kind that are on, made by `KernelDevice.interrupts`. Closing turns them off.

    Each vector counts in an eventfd of its own; `fds` are their descriptors, for an event loop of yours. Several
    threads and tasks may wait; an interrupt goes to one of them.
    """

    _made_by = "device.interrupts(kind)"
    _closed: bool = False
    _lock: threading.Lock  # of the descriptors: nobody reads one that may be another file's
    fds: tuple[int, ...]
    index: int
    device: KernelDevice

    KINDS: ClassVar[dict[str, vfio.PciIrq]] = KINDS

    @classmethod
    def _open(cls, device: KernelDevice, index: int, count: int) -> Interrupts:
        fds = tuple(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(count))
        data = np.array(fds, np.int32).tobytes()
        err = set_irqs(device, vfio.IrqSetFlag.EVENTFD | vfio.IrqSetFlag.TRIGGER, index, 0, count, data)
        if err < 0:
            for fd in fds:
                os.close(fd)
            raise failed(err, "kernel irq", f"cannot turn on {count} vectors of kind {index} of {device.name}")
        return cls._new(device=device, index=index, fds=fds, _lock=threading.Lock())

    def __len__(self) -> int:
        return len(self.fds)

    def poll(self) -> dict[int, int]:
        """What came since it was asked last: {vector: how often}. Never waits."""
        self._check()
        found = {}
        with self._lock:
            for vector, fd in enumerate(self.fds if not self._closed else ()):
                try:
                    found[vector] = os.eventfd_read(fd)
                except BlockingIOError:
                    continue
        return found

    def wait(self, timeout: float | None = None) -> dict[int, int]:
        """Wait for an interrupt: {vector: how often}; empty when none came within `timeout` seconds."""
        self._check()
        waiting = select.poll()
        for fd in self.fds:
            waiting.register(fd, select.POLLIN)
        waiting.poll(None if timeout is None else max(int(timeout * 1000 + 0.999), 0))
        return {} if self._closed else self.poll()

    async def wait_async(self) -> dict[int, int]:
        """As `wait`, in an event loop: ``await irqs.wait_async()``."""
        self._check()
        import asyncio  # late: it costs more than all the rest, and few wait this way

        loop = asyncio.get_running_loop()
        while not (found := self.poll()):
            came: asyncio.Future[None] = loop.create_future()
            fds = [os.dup(fd) for fd in self.fds]
            try:
                for fd in fds:
                    loop.add_reader(fd, _set, came)
                await came
            finally:
                for fd in fds:
                    loop.remove_reader(fd)
                    os.close(fd)
        return found

    def mask(self) -> None:
        """Hold the interrupts back (INTx)."""
        self._do(vfio.IrqSetFlag.MASK, "mask")

    def unmask(self) -> None:
        """Let the next one come: INTx is masked by each."""
        self._do(vfio.IrqSetFlag.UNMASK, "unmask")

    def trigger(self, vector: int = 0) -> None:
        """Make one come, as if from the device: to try a handler."""
        self._do(vfio.IrqSetFlag.TRIGGER, "trigger", vector)

    def _do(self, action: int, verb: str, vector: int = 0) -> None:
        self._check()
        err = set_irqs(self.device, vfio.IrqSetFlag.NONE | action, self.index, vector, 1)
        if err < 0:
            raise failed(err, "kernel irq", f"cannot {verb} vector {vector} of kind {self.index} of {self.device.name}")

    def _check(self) -> None:
        if self.closed:
            raise ValueError(f"{self!r} is closed")
        self.device._h.check_open()

    @property
    def closed(self) -> bool:
        """Whether they were turned off, or their device closed."""
        return self._closed or self.device.closed

    def close(self) -> None:
        """Turn them off and close the eventfds. Again is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self.device.closed and not self.device._h.forked:
                set_irqs(self.device, vfio.IrqSetFlag.NONE | vfio.IrqSetFlag.TRIGGER, self.index, 0, 0)
            for fd in self.fds:
                os.close(fd)
        self.device._irqs.discard(self)

    def __del__(self) -> Any:
        if self.__dict__ and not self._closed:
            for fd in self.fds:
                os.close(fd)

    def __repr__(self) -> str:
        return f"<Interrupts of {self.device.name}: {len(self.fds)} of kind {self.index}>"
