# SPDX-License-Identifier: Apache-2.0
"""PCI configuration space, and QEMU's teaching device `edu`, whose engine is what does DMA here."""

from __future__ import annotations

from collections.abc import Callable

from protocol import Machine

COMMAND, BAR0 = 0x04, 0x10
MEMORY_AND_MASTER = 6


class Bus:
    """Bus 0, by ECAM (`ecam` is its address) or by the ports 0xcf8 and 0xcfc. `window` is where BARs may be."""

    def __init__(self, machine: Machine, window: int, ecam: int | None = None):
        self.machine, self.ecam, self.next = machine, ecam, window

    def read(self, devfn: int, offset: int) -> int:
        if self.ecam is not None:
            return self.machine.read32(self.ecam + (devfn << 12) + offset)
        self.machine.out32(0xCF8, 1 << 31 | devfn << 8 | offset)
        return self.machine.in32(0xCFC)

    def write(self, devfn: int, offset: int, value: int) -> None:
        if self.ecam is not None:
            self.machine.write32(self.ecam + (devfn << 12) + offset, value)
            return
        self.machine.out32(0xCF8, 1 << 31 | devfn << 8 | offset)
        self.machine.out32(0xCFC, value)

    def find(self, vendor: int, device: int) -> int:
        """Device and function number of the first such device."""
        for devfn in range(256):
            if self.read(devfn, 0) == device << 16 | vendor:
                return devfn
        raise LookupError(f"no device {vendor:04x}:{device:04x} on bus 0")

    def start(self, devfn: int, size: int = 1 << 20) -> int:
        """Give BAR 0 (32 or 64 bits) an address, allow memory accesses and DMA. Returns the address."""
        at, self.next = self.next, self.next + size
        wide = self.read(devfn, BAR0) & 4
        self.write(devfn, BAR0, at)
        if wide:
            self.write(devfn, BAR0 + 4, at >> 32)
        self.write(devfn, COMMAND, MEMORY_AND_MASTER)
        return at


EDU = "edu,addr=2,dma_mask=0xffffffffffffffff"


class Edu:
    """One buffer of 4096 bytes inside the device, and copies between it and what the IOMMU makes of an IOVA."""

    BUFFER, SIZE = 0x40000, 4096
    SOURCE, TARGET, COUNT, GO = 0x80, 0x88, 0x90, 0x98
    FROM_MEMORY, TO_MEMORY = 1, 3

    def __init__(self, bus: Bus):
        self.machine = bus.machine
        self.devfn = bus.find(0x1234, 0x11E8)
        self.bar = bus.start(self.devfn)

    def _run(self, source: int, target: int, count: int, command: int) -> None:
        for register, value in ((self.SOURCE, source), (self.TARGET, target), (self.COUNT, count), (self.GO, command)):
            self.machine.write64(self.bar + register, value)
        idle: Callable[[], bool] = lambda: not self.machine.read64(self.bar + self.GO) & 1  # noqa: E731
        self.machine.until(idle, f"DMA of {count} bytes from {source:#x} to {target:#x}")

    def fetch(self, iova: int, count: int) -> None:
        """DMA read: memory to the buffer."""
        self._run(iova, self.BUFFER, count, self.FROM_MEMORY)

    def put(self, iova: int, count: int) -> None:
        """DMA write: the buffer to memory."""
        self._run(self.BUFFER, iova, count, self.TO_MEMORY)
