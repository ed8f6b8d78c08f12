# SPDX-License-Identifier: Apache-2.0
"""VT-d (QEMU's intel-iommu): root, context and PASID tables, queued or register-based invalidation, fault recording.

Intel Virtualization Technology for Directed I/O: chapters 3 (tables), 6.5 (invalidation), 7 (faults), 11 (registers).
"""

from __future__ import annotations

import struct
from typing import Any

from devices import EDU, Bus
from model import Model, Record

BASE = 0xFED90000
CAP, ECAP, GCMD, GSTS, RTADDR, CCMD, FSTS, IQH, IQT, IQA = 0x08, 0x10, 0x18, 0x1C, 0x20, 0x28, 0x34, 0x80, 0x88, 0x90
TE, SRTP, QIE = 1 << 31, 1 << 30, 1 << 26
SCALABLE = 1 << 10  # in RTADDR
WIDE = 1 << 11  # in IQA
FIRST_STAGE, SECOND_STAGE = 1, 2  # PGTT of a PASID table's entry
WRITE_FAULT, READ_FAULT = 5, 6
US = 2  # of the first stage: our walker does not know who asks
SNP, TM = 11, 62  # of the second: reserved in a table's entry in some revisions; reserved without device TLBs
# Reasons (appendix A) by what our walker says, in legacy mode and for first-stage tables in scalable mode.
LEGACY = {"outside": (4, 4), "memory": (7, 7), "reserved": (12, 12), "hole": (6, 5), "denied": (6, 5)}
FIRST = {
    "outside": (0x80, 0x80),
    "memory": (0x70, 0x70),
    "reserved": (0x72, 0x72),
    "hole": (0x71, 0x71),
    "denied": (0x85, 0x85),
}


class Vtd(Model):
    """One IOMMU, one device with one table."""

    ram = 0
    oa_bits = 48  # QEMU's aw-bits
    empty = range(1 << 32, 1 << 48)

    def __init__(self, program: str, name: str, shape: dict[str, Any], *, pgtt: int = 0, queued: bool = True):
        options = {0: "", SECOND_STAGE: ",x-scalable-mode=on", FIRST_STAGE: ",x-scalable-mode=on,x-flts=on"}[pgtt]
        super().__init__(program, name, shape)
        self.pgtt, self.queued, self.tail = pgtt, queued, 0
        self.unjudged = frozenset({US} if pgtt == FIRST_STAGE else {SNP, TM})
        self.width = 32 if pgtt else 16  # bytes of an invalidation descriptor: scalable mode needs the wide ones
        self.machine = self.start(
            *("-M", "q35,kernel-irqchip=split,memory-backend=ram", "-bios", self.firmware(b"\xf4" * 65536)),
            *("-device", f"intel-iommu,aw-bits=48,snoop-control=on{options}", "-device", EDU),
        )
        self.bus = Bus(self.machine, window=0xE0000000)
        self.begin()

    def set_up(self) -> None:
        self.fro = ((self.machine.read64(BASE + CAP) >> 24) & 0x3FF) * 16
        self.iro = ((self.machine.read64(BASE + ECAP) >> 8) & 0x3FF) * 16
        self.root, self.context, self.pasids, self.pasid_table, self.queue = self.pages(5)
        self.store(self.root, struct.pack("<QQ", self.context | 1, 0))
        self.machine.write64(BASE + RTADDR, self.root | (SCALABLE if self.pgtt else 0))
        self.command(SRTP)
        if self.queued:
            self.machine.write64(BASE + IQA, self.queue | (WIDE if self.pgtt else 0))
            self.command(QIE)
        self.command(TE)

    def command(self, bit: int) -> None:
        """One command; what is on stays on. SRTP is no state but its bit in GSTS says that it was done."""
        state = self.machine.read32(BASE + GSTS) & ~SRTP
        self.machine.write32(BASE + GCMD, state | bit)
        self.machine.until(lambda: bool(self.machine.read32(BASE + GSTS) & bit), f"GCMD {bit:#x}")

    def point(self, root: int, levels: int) -> None:
        width = levels - 2  # 1 for 39 bits
        if not self.pgtt:
            entry = struct.pack("<QQ", root | 1, width | 1 << 8)
            self.store(self.context + 16 * self.devfn, entry)
            return
        self.store(self.context + 32 * self.devfn, struct.pack("<QQQQ", self.pasids | 1, 0, 0, 0))
        self.store(self.pasids, struct.pack("<Q", self.pasid_table | 1))
        if self.pgtt == FIRST_STAGE:
            # AW belongs to the second stage, but QEMU 10 takes it for what is canonical.
            entry = struct.pack("<QQQ", 1 | width << 2 | FIRST_STAGE << 6, 1, root | (levels - 4) << 2)
        else:
            entry = struct.pack("<QQQ", root | 1 | width << 2 | SECOND_STAGE << 6, 1, 0)
        self.store(self.pasid_table, entry)

    def invalidate(self) -> None:
        if self.queued:
            self.submit(0x11)  # context cache, global
            if self.pgtt:
                self.submit(0x37)  # PASID cache, global
            if self.pgtt == FIRST_STAGE:
                self.submit(0x26 | 1 << 16)  # IOTLB of PASID 0 of domain 1
            self.submit(0x12 | 3 << 6)  # IOTLB, global, drained
            return
        self.machine.write64(BASE + CCMD, 1 << 63 | 1 << 61)
        self.machine.until(lambda: not self.machine.read64(BASE + CCMD) >> 63, "context cache")
        self.machine.write64(BASE + self.iro + 8, 1 << 63 | 1 << 60)
        self.machine.until(lambda: not self.machine.read64(BASE + self.iro + 8) >> 63, "IOTLB")

    def submit(self, descriptor: int) -> None:
        self.store(self.queue + self.width * self.tail, struct.pack("<QQQQ", descriptor, 0, 0, 0)[: self.width])
        self.tail = (self.tail + 1) % (4096 // self.width)
        self.machine.write64(BASE + IQT, self.tail * self.width)
        self.machine.until(
            lambda: self.machine.read64(BASE + IQH) == self.tail * self.width, f"invalidation {descriptor:#x}"
        )

    def records(self) -> list[Record]:
        """The model has one fault record; further faults are lost until it is cleared."""
        low, high = (self.machine.read64(BASE + self.fro + at) for at in (0, 8))
        if not high >> 63:
            return []
        self.machine.write32(BASE + self.fro + 12, 1 << 31)
        self.machine.write32(BASE + FSTS, 1)
        if (high & 0xFFFF) != self.devfn:
            raise RuntimeError(f"a fault of {high & 0xFFFF:#x}, which does no DMA")
        return [Record(low & ~0xFFF, not high >> 62 & 1, (high >> 32) & 0xFF)]

    def expected(self, iova: int, write: bool, reason: str, items: list[int]) -> tuple[Record, ...]:
        reasons = FIRST if self.pgtt == FIRST_STAGE else LEGACY
        codes = {reasons[reason][write]}
        if not all(item & (2 if write else 1) for item in items):
            codes.add(reasons["denied"][write])
        return tuple(Record(iova & ~0xFFF, write, code) for code in codes)


def models(program: str, version: tuple[int, ...]):
    """What this QEMU's VT-d can do: (name, how to make it) pairs."""
    second = {"format": "vtdss", "va_bits": 48}
    yield "VT-d second stage, 4 levels", lambda n: Vtd(program, n, second)
    yield "VT-d second stage, 3 levels", lambda n: Vtd(program, n, {"format": "vtdss", "va_bits": 39}, queued=False)
    yield "VT-d second stage, scalable mode", lambda n: Vtd(program, n, second, pgtt=SECOND_STAGE)
    if version >= (10, 0):
        first = {"format": "x86_64", "va_bits": 48, "sign_extend": True}
        yield "VT-d first stage", lambda n: Vtd(program, n, first, pgtt=FIRST_STAGE)
    else:
        yield "VT-d first stage", "needs x-flts, QEMU 10.0"
