# SPDX-License-Identifier: Apache-2.0
"""AMD-Vi (QEMU's amd-iommu): device table, command buffer, event log.

AMD I/O Virtualization Technology (IOMMU) Specification: chapters 2.2 (tables), 2.4 (commands), 2.5 (events),
3.4 (registers).
"""

from __future__ import annotations

import struct
from typing import Any

from devices import EDU, Bus
from model import Model, Record
from protocol import has_property

BASE = 0xFED80000
DEVTAB, CMDBUF, EVTLOG, CONTROL = 0x00, 0x08, 0x10, 0x18
CMD_HEAD, CMD_TAIL, EVT_HEAD, EVT_TAIL = 0x2000, 0x2008, 0x2010, 0x2018
ENABLED = 1 | 1 << 2 | 1 << 12  # translation, event log, command buffer
COMMANDS = {"device table": 2 << 60, "pages": 3 << 60}
QUEUE = 256  # entries of 16 bytes
PLAIN = 1 << 12 | 1 << 21 | 1 << 30


class Amd(Model):
    """One domain with a host table."""

    ram = 0
    oa_bits = 52
    empty = range(1 << 32, 1 << 38)

    def __init__(self, program: str, name: str, shape: dict[str, Any], remap: bool):
        super().__init__(program, name, shape)
        self.sent, self.plain = 0, "page_sizes" in shape
        if not self.plain:
            self.cases = ("random maps",)  # half a leaf of several entries is nobody's case
        self.machine = self.start(
            *("-M", "q35,memory-backend=ram", "-bios", self.firmware(b"\xf4" * 65536)),
            *("-device", "amd-iommu,dma-remap=on" if remap else "amd-iommu", "-device", EDU),
        )
        self.bus = Bus(self.machine, window=0xE0000000)
        self.begin()

    def set_up(self) -> None:
        (self.devices,) = self.pages(1, 65536 * 32)
        self.commands, self.events = self.pages(2)
        self.machine.write64(BASE + DEVTAB, self.devices | 511)
        self.machine.write64(BASE + CMDBUF, self.commands | 8 << 56)
        self.machine.write64(BASE + EVTLOG, self.events | 8 << 56)
        self.machine.write64(BASE + CONTROL, ENABLED)

    def point(self, root: int, levels: int) -> None:
        entry = struct.pack("<QQQQ", 3 | levels << 9 | root | 3 << 61, 1, 0, 0)
        self.store(self.devices + 32 * self.devfn, entry)

    def invalidate(self) -> None:
        for name, command in COMMANDS.items():
            rest = 0x7FFFFFFFFFFFF003 if name == "pages" else 0  # S, PDE, all addresses
            low = command | (self.devfn if name != "pages" else 1 << 32)
            self.store(self.commands + 16 * self.sent, struct.pack("<QQ", low, rest))
            self.sent = (self.sent + 1) % QUEUE
            self.machine.write64(BASE + CMD_TAIL, self.sent * 16)
            # QEMU's register says 0x1000 for 0 after a round.
            done = lambda: self.machine.read64(BASE + CMD_HEAD) % (16 * QUEUE) == self.sent * 16  # noqa: E731
            self.machine.until(done, f"invalidation: {name}")

    def records(self) -> list[Record]:
        """QEMU logs no event for an empty or a denying leaf, so data are all that is compared."""
        return []

    def expected(self, iova: int, write: bool, reason: str, items: list[int]) -> tuple[Record, ...]:
        return ()

    def judges(self, reason: str, items: list[int]) -> bool:
        """Where there are only leaves of the levels' sizes: none of a size of its own, nor levels out of order."""
        if not self.plain:
            return True
        levels = [item >> 9 & 7 for item in items]
        return 7 not in levels and reason != "reserved"


def models(program: str, version: tuple[int, ...]):
    """Host tables of three to six levels, where DMA is translated at all."""
    remap = has_property(program, "amd-iommu", "dma-remap")
    for level in (2, 3, 5):
        shape = {"format": "amdv1", "top_level": level, "va_bits": min(64, 21 + 9 * level)}
        for title, more in (("levels' leaves", {"page_sizes": PLAIN}), ("every leaf", {})):
            title = f"AMD-Vi, {level + 1} levels, {title}"
            if version < (9, 2) or remap:
                yield title, lambda n, s=shape | more: Amd(program, n, s, remap)
            else:
                yield title, "amd-iommu without dma-remap, from QEMU 9.2 on, lets DMA through untranslated"
