# SPDX-License-Identifier: Apache-2.0
"""RISC-V's IOMMU (QEMU's riscv-iommu-pci): device directory of one level, command and fault queues.

RISC-V IOMMU Architecture Specification: chapters 2 (data structures), 3 (in-memory queues), 5 (registers).
"""

from __future__ import annotations

import struct
from typing import Any

from devices import EDU, Bus
from model import Model, Record

CAPABILITIES, DDTP, CQB, CQH, CQT, FQB, FQH, FQT, CQCSR, FQCSR = 0, 16, 24, 32, 36, 40, 48, 52, 72, 76
MSI_FLAT = 1 << 22  # contexts of 64 bytes
QUEUE_LOG2 = 6  # entries of a queue: a page of commands, half of one of faults
COMMANDS = {"device contexts": 3, "first stage": 1, "second stage": 1 | 1 << 7, "fence": 2}
MODES = {39: 8, 48: 9, 57: 10, 41: 8, 50: 9, 59: 10}
# Causes for a read and a write: page fault, guest page fault, access fault.
PAGE, GUEST, ACCESS = (13, 15), (21, 23), (5, 7)
W, U, A, D = 2, 4, 6, 7  # whether the absence of U, A or D faults is for the context to say
HIGH_BITS = range(54, 64)  # reserved, or of extensions that the model does not have; it does not look at them
SPIN = "0xffdff06f10500073"  # wfi, and back


class Riscv(Model):
    """First or second stage for one device."""

    ram = 2 << 30
    oa_bits = 56
    empty = range(4 << 30, 16 << 30)

    def __init__(self, program: str, name: str, shape: dict[str, Any]):
        super().__init__(program, name, shape)
        self.second, self.sent = shape["format"].endswith("x4"), 0
        self.unjudged = frozenset({U, A, D, *HIGH_BITS})
        self.machine = self.start(
            *("-M", "virt,memory-backend=ram", "-bios", "none"),
            *("-device", "riscv-iommu-pci,addr=1", "-device", EDU),
            *("-device", f"loader,addr={self.ram:#x},data={SPIN},data-len=8"),
        )
        self.bus = Bus(self.machine, window=0x40000000, ecam=0x30000000)
        self.begin()

    def set_up(self) -> None:
        self.base = self.bus.start(self.bus.find(0x1B36, 0x14))
        self.directory, self.commands, self.faults = self.pages(3)
        self.context_size = 64 if self.machine.read64(self.base + CAPABILITIES) & MSI_FLAT else 32
        for register, at, control in ((CQB, self.commands, CQCSR), (FQB, self.faults, FQCSR)):
            self.machine.write64(self.base + register, at >> 2 | (QUEUE_LOG2 - 1))
            self.machine.write32(self.base + control, 1)
            self.machine.until(lambda c=control: self.machine.read32(self.base + c) >> 16 & 1 == 1, "a queue")
        self.machine.write64(self.base + DDTP, self.directory >> 2 | 2)
        self.machine.until(lambda: self.machine.read64(self.base + DDTP) & 0x1F == 2, "DDTP")

    def point(self, root: int, levels: int) -> None:
        table = MODES[self.table_bits] << 60 | root >> 12
        stages = (table, 0, 0) if self.second else (0, 0, table)
        self.store(self.directory + self.context_size * self.devfn, struct.pack("<QQQQ", 1, *stages))

    def invalidate(self) -> None:
        for name, command in COMMANDS.items():
            self.store(self.commands + 16 * self.sent, struct.pack("<QQ", command, 0))
            self.sent = (self.sent + 1) % (1 << QUEUE_LOG2)
            self.machine.write32(self.base + CQT, self.sent)
            self.machine.until(lambda: self.machine.read32(self.base + CQH) == self.sent, f"invalidation: {name}")

    def records(self) -> list[Record]:
        seen, end = (self.machine.read32(self.base + at) for at in (FQH, FQT))
        found = []
        while seen != end:
            head, _, iova, _ = struct.unpack("<4Q", self.load(self.faults + 32 * seen, 32))
            if head >> 40 != self.devfn:
                raise RuntimeError(f"a fault of device {head >> 40:#x}, which does no DMA: {head:#x}")
            cause = head & 0xFFF  # QEMU's TTYP says "write" for reads as well, so the cause alone is judged
            found.append(Record(iova & ~0xFFF, any(cause == pair[1] for pair in (PAGE, GUEST, ACCESS)), cause))
            seen = (seen + 1) % (1 << QUEUE_LOG2)
        self.machine.write32(self.base + FQH, seen)
        return found

    def judges(self, reason: str, items: list[int]) -> bool:
        """Not what a table's entry must not have, which QEMU does not look at, nor a writable leaf without D."""
        last = items[-1] if items else 0
        if reason == "reserved" and not last & 0xE:
            return not last & (1 << U | 1 << A | 1 << D)
        return not (last >> W & 1 and not last >> D & 1)

    def expected(self, iova: int, write: bool, reason: str, items: list[int]) -> tuple[Record, ...]:
        code = (ACCESS if reason == "memory" else GUEST if self.second else PAGE)[write]
        return (Record(iova & ~0xFFF, write, code),)


def models(program: str, version: tuple[int, ...]):
    """From QEMU 9.2 on."""
    for bits in (39, 48, 57):
        shape = {"format": "riscv64", "va_bits": bits, "sign_extend": True}
        second = {"format": "riscv64_x4", "va_bits": bits + 2}
        for title, given in ((f"RISC-V Sv{bits}", shape), (f"RISC-V Sv{bits}x4", second)):
            if version >= (9, 2):
                yield title, lambda n, s=given: Riscv(program, n, s)
            else:
                yield title, "no riscv-iommu-pci before QEMU 9.2"
