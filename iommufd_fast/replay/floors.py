# SPDX-License-Identifier: Apache-2.0
"""What a trace is replayed into: a bare page table, or an IOAS over real memory with a device attached."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import iommufd_fast as iof
from iommufd_fast._core import benchrig, replayloop
from iommufd_fast._core.pagetable import PageTable

from .plan import Plan
from .trace import GRANULE, Event

LARGE = 2 << 20


class Floor(Protocol):
    """The verbs of a replay. `translate` gives None for a hole."""

    title: str

    def address(self, paddr: int) -> int: ...
    def map(self, event: Event) -> None: ...
    def unmap(self, event: Event) -> int: ...
    def translate(self, iova: int) -> int | None: ...
    def probe(self, event: Event) -> str | None: ...
    def leaves(self) -> dict[int, int]: ...
    def timed(self, plan: Plan, tsc: bool) -> NDArray[np.uint64]: ...
    def close(self) -> None: ...


class TableFloor:
    """The trace's own physical addresses in a VT-d second-stage table."""

    title = "page table (VT-d second stage)"

    def __init__(self, plan: Plan, preset: str) -> None:
        self.table = PageTable("vtdss")

    def address(self, paddr: int) -> int:
        return paddr

    def map(self, event: Event) -> None:
        assert event.paddr is not None
        self.table.map(event.iova, event.paddr, event.size, "rw")

    def unmap(self, event: Event) -> int:
        return self.table.unmap(event.iova, event.size)

    def translate(self, iova: int) -> int | None:
        return self.table.translate(iova)

    def probe(self, event: Event) -> str | None:
        return None

    def leaves(self) -> dict[int, int]:
        return dict(self.table.stats().leaves)

    def timed(self, plan: Plan, tsc: bool) -> NDArray[np.uint64]:
        return replayloop.table(*plan.columns(self.address), tsc=tsc)

    def close(self) -> None:
        self.table.close()


class Memory:
    """One memfd that stands for the physical memory of a trace: a page for each page the trace names.

    What is contiguous there is contiguous here and nothing else is: runs lie in the order of their addresses with
    an unused page between them, and runs of 2 MiB and more keep their place within 2 MiB, so that the same large
    leaves fit. The file is sparse.
    """

    def __init__(self, plan: Plan) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.offsets: list[int] = []
        self._runs(sorted((s.event.paddr, s.event.size) for s in plan.steps if s.event.paddr is not None))
        size = self._place()
        fd = os.memfd_create("iommufd-fast-replay", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size + LARGE)
            self.area = mmap.mmap(fd, size + LARGE, flags=mmap.MAP_SHARED)
        finally:
            os.close(fd)
        self.bytes = np.frombuffer(self.area, np.uint8)
        start = int(self.bytes.ctypes.data)
        self.skip = -start % LARGE
        self.base = start + self.skip

    def _runs(self, ranges: list[tuple[int, int]]) -> None:
        for start, size in ranges:
            if self.ends and start <= self.ends[-1]:
                self.ends[-1] = max(self.ends[-1], start + size)
            else:
                self.starts.append(start)
                self.ends.append(start + size)

    def _place(self) -> int:
        at = 0
        for start, end in zip(self.starts, self.ends, strict=True):
            if end - start >= LARGE:
                at += (start - at) % LARGE
            self.offsets.append(at)
            at += end - start + GRANULE
        return at

    def offset(self, paddr: int) -> int:
        """Where a physical address of the trace lies in `bytes`."""
        run = bisect_right(self.starts, paddr) - 1
        return self.skip + self.offsets[run] + paddr - self.starts[run]

    def address(self, paddr: int) -> int:
        return self.base - self.skip + self.offset(paddr)

    def close(self) -> None:
        del self.bytes
        self.area.close()


class IoasFloor:
    """FIXED maps of one memfd into an IOAS that a soft device is attached to. An unmap over several maps is one
    call."""

    title = "IOAS with one attached device"

    def __init__(self, plan: Plan, preset: str) -> None:
        self.preset = preset
        self.memory = Memory(plan)
        self.machine = iof.Machine(preset, groups=(1,))
        self.ctx = self.machine.open()
        self.dev = self.ctx.bind(iof.SoftDevice(preset, machine=self.machine))
        self.ioas = self.ctx.ioas()
        self.hwpt = self.dev.attach(self.ioas)

    def address(self, paddr: int) -> int:
        return self.memory.address(paddr)

    def map(self, event: Event) -> None:
        assert event.paddr is not None
        self.ioas.map_many([self.address(event.paddr)], [event.size], iovas=[event.iova], trusted=True)

    def unmap(self, event: Event) -> int:
        return self.ioas.unmap(event.iova, event.size)

    def translate(self, iova: int) -> int | None:
        return self.ioas.translate_one(iova)

    def probe(self, event: Event) -> str | None:
        """The device writes through a fresh mapping, and finds nothing where an unmap was. None, or what was wrong."""
        word = event.line.to_bytes(8, "little")
        if event.paddr is None:
            try:
                self.dev.dma_write(event.iova, word)
            except iof.DmaFault as fault:
                return None if fault.reason == "unmapped" else f"a DMA fault for another reason: {fault}"
            return "a DMA write that went through"
        self.dev.dma_write(event.iova, word)
        at = self.memory.offset(event.paddr)
        seen = self.memory.bytes[at : at + 8].tobytes()
        return None if seen == word else f"{seen.hex()} in memory after the device wrote {word.hex()}"

    def leaves(self) -> dict[int, int]:
        return dict(self.hwpt.stats().leaves)

    def timed(self, plan: Plan, tsc: bool) -> NDArray[np.uint64]:
        rig = benchrig.Rig(self.preset, "trust", True, tsc)
        return replayloop.ioas(rig, *plan.columns(self.address))

    def close(self) -> None:
        self.ctx.close()
        self.machine.close()
        self.memory.close()


FLOORS: dict[str, type[TableFloor] | type[IoasFloor]] = {"pagetable": TableFloor, "ioas": IoasFloor}
