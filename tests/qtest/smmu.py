# SPDX-License-Identifier: Apache-2.0
"""SMMUv3 (QEMU's virt machine of arm64): stream table, context descriptors, command and event queues.

Arm System Memory Management Unit Architecture Specification, SMMUv3: chapters 4 (commands), 5 (stream table entry,
context descriptor), 6 (registers), 7.3 (event records).
"""

from __future__ import annotations

import struct
from typing import Any

from devices import EDU, Bus
from model import Model, Record

BASE, PAGE1 = 0x09050000, 0x09060000
CR0, CR0ACK, CR1, STRTAB_BASE, STRTAB_CFG, CMDQ_BASE, CMDQ_PROD = 0x20, 0x24, 0x28, 0x80, 0x88, 0x90, 0x98
CMDQ_CONS, EVENTQ_BASE, EVENTQ_PROD, EVENTQ_CONS = 0x9C, 0xA0, 0xA8, 0xAC
IDR0, IDR5 = 0x00, 0x14
SMMUEN, EVENTQEN, CMDQEN = 1, 4, 8
COMMANDS = {"STEs": (0x04, 31), "CDs": (0x06, 0), "TLB": (0x30, 0), "EL2 TLB": (0x28, 0), "sync": (0x46, 0)}
QUEUE_LOG2 = 7
TG = {4096: 0, 65536: 1, 16384: 2}
# Event numbers: F_WALK_EABT, F_TRANSLATION, F_ADDR_SIZE, F_PERMISSION.
EVENTS = {"memory": 0x0B, "hole": 0x10, "outside": 0x10, "address": 0x11, "denied": 0x13}
AF = 10  # whether its absence faults is for the context to say
DBM = 51  # with the context's HD, "writable when somebody writes"
HIGH_BITS = (12, 13, 14, 15)  # of an address of 52 bits; with fewer, revisions of the architecture differ
AP_TABLE = 62  # no writes below
CONTIGUOUS = 52  # a promise: what becomes of a broken one is open
WFI_AND_BACK = "0x17ffffffd503207f"


class Smmu(Model):
    """Stage 1 or stage 2 for every stream."""

    ram = 1 << 30
    oa_bits = 44
    empty = range(3 << 30, 1 << 38)

    def __init__(self, program: str, name: str, shape: dict[str, Any], version: tuple[int, ...]):
        super().__init__(program, name, shape)
        high = HIGH_BITS if shape["granule"] == 65536 else ()
        self.unjudged = frozenset({AF, DBM, CONTIGUOUS, *high})
        self.version, self.stage, self.sent = version, int(shape["format"][-1]), 0
        which = ("-global", f"arm-smmuv3.stage={self.stage}") if version >= (8, 1) else ()
        self.machine = self.start(
            *("-M", "virt,iommu=smmuv3,memory-backend=ram", "-cpu", "max", *which),
            *("-device", EDU),
            *("-device", f"loader,addr={self.ram + (8 << 20):#x},data={WFI_AND_BACK},data-len=8"),
            *("-device", f"loader,addr={self.ram + (8 << 20):#x},cpu-num=0"),
        )
        self.bus = Bus(self.machine, window=0x10000000, ecam=0x4010000000)
        self.begin()

    def write32(self, register: int, value: int) -> None:
        self.machine.write32(BASE + register, value)

    def set_up(self) -> None:
        (self.streams,) = self.pages(1, 256 * 64)
        self.context, self.commands, self.events = self.pages(3)
        self.machine.write64(BASE + STRTAB_BASE, self.streams)
        self.write32(STRTAB_CFG, 8)
        self.machine.write64(BASE + CMDQ_BASE, self.commands | QUEUE_LOG2)
        self.machine.write64(BASE + EVENTQ_BASE, self.events | QUEUE_LOG2)
        self.write32(CR0, SMMUEN | EVENTQEN | CMDQEN)
        self.machine.until(lambda: self.machine.read32(BASE + CR0ACK) & 1 == 1, "CR0")

    def point(self, root: int, levels: int) -> None:
        bits = self.table_bits
        granule = TG[self.shape.get("granule", 4096)]
        if self.stage == 1:
            low = (64 - bits) | granule << 6 | 1 << 30 | 1 << 31  # T0SZ, TG0, EPD1, V
            high = 4 | 1 << 9 | 1 << 13 | 1 << 14  # IPS 44 bits, AA64, R, A
            mair = 0x04FF44
            self.store(self.context, struct.pack("<IIQQQ", low, high, root, 0, mair))
            entry = [1 | 5 << 1 | self.context, 1 << 44, 0, 0]  # SHCFG: incoming
        else:
            sl0 = levels - (2 if granule == 0 else 1)
            low = 1 | (64 - bits) << 32 | sl0 << 38 | granule << 46 | 4 << 48 | 1 << 51 | 1 << 58
            entry = [1 | 6 << 1, 1 << 44, low, root]
        self.store(self.streams + 64 * self.devfn, struct.pack("<QQQQ", *entry))

    def invalidate(self) -> None:
        for name, (opcode, argument) in COMMANDS.items():
            self.store(self.commands + 16 * (self.sent % (1 << QUEUE_LOG2)), struct.pack("<QQ", opcode, argument))
            self.sent = (self.sent + 1) % (2 << QUEUE_LOG2)
            self.write32(CMDQ_PROD, self.sent)
            self.machine.until(lambda: self.machine.read32(BASE + CMDQ_CONS) == self.sent, f"invalidation of {name}")

    def records(self) -> list[Record]:
        seen, end = (self.machine.read32(PAGE1 + at) for at in (EVENTQ_CONS, EVENTQ_PROD))
        found = []
        while seen != end:
            event = self.load(self.events + 32 * (seen % (1 << QUEUE_LOG2)), 32)
            words = struct.unpack("<8I", event)
            if words[1] != self.devfn:
                raise RuntimeError(f"an event of stream {words[1]:#x}, which does no DMA: {event.hex()}")
            address = words[4] | words[5] << 32
            found.append(Record(address & ~0xFFF, not words[3] >> 3 & 1, words[0] & 0xFF))
            seen = (seen + 1) % (2 << QUEUE_LOG2)
        self.machine.write32(PAGE1 + EVENTQ_CONS, seen)
        return found

    def judges(self, reason: str, items: list[int]) -> bool:
        """Not blocks where none can be, which QEMU takes; nor the AF of a table's entry that became a block's"""
        if reason == "reserved":
            return self.version >= (8, 1) and items[-1] & 3 == 3
        return reason not in ("", "denied") or bool(items[-1] >> AF & 1)

    def expected(self, iova: int, write: bool, reason: str, items: list[int]) -> tuple[Record, ...]:
        codes = {EVENTS[reason]} if reason != "reserved" else {EVENTS["address"], EVENTS["memory"]}
        if self.denies(items, write):
            codes.add(EVENTS["denied"])
        return tuple(Record(iova & ~0xFFF, write, code) for code in codes)

    def denies(self, items: list[int], write: bool) -> bool:
        """Some entry on the way denies it, though it may not be what is looked at first."""
        if self.stage == 2:
            return not items[-1] >> (7 if write else 6) & 1
        return write and (any(item >> AP_TABLE & 1 for item in items[:-1]) or bool(items[-1] >> 7 & 1))


def models(program: str, version: tuple[int, ...]):
    """Stage 1 from QEMU 4 on, stage 2 from 8.1 on; which granules, the model says."""
    for granule in (4096, 16384, 65536):
        shape = {"format": "arm_s1", "granule": granule, "oa_bits": 44, "va_bits": 48}
        yield f"SMMUv3 stage 1, {granule >> 10}K", lambda n, s=shape: Smmu(program, n, s, version)
    for granule in (4096, 16384, 65536):
        shape = {"format": "arm_s2", "granule": granule, "oa_bits": 44, "va_bits": 44}
        if version >= (8, 1):
            yield f"SMMUv3 stage 2, {granule >> 10}K", lambda n, s=shape: Smmu(program, n, s, version)
        else:
            yield f"SMMUv3 stage 2, {granule >> 10}K", "needs QEMU 8.1"
