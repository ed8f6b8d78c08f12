# SPDX-License-Identifier: Apache-2.0
"""What all IOMMU models have in common: a machine, places for tables in its memory, faults as records."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from devices import Bus, Edu
from protocol import Machine

from iommufd_fast._core.pagetable import PageTable
from iommufd_fast._core.ptforeign import ForeignPageTable

MIB = 1 << 20
RAM = 2048 * MIB
SHARED_MEMORY = "/dev/shm"  # the file is sparse: what is not touched takes no room
CONTROL, TABLES, DATA, END = 16 * MIB, 32 * MIB, 64 * MIB, 1024 * MIB  # offsets in RAM


class Record(NamedTuple):
    """A fault as the hardware told it: the IOVA (as precise as the hardware is), a write or a read, its own code."""

    iova: int
    write: bool
    code: int


class Model:
    """An IOMMU, its page table `shape`, and the device behind it.

    A subclass starts `machine` and `bus` and calls begin(); it has `ram`, where memory begins, and the methods below.
    """

    machine: Machine
    bus: Bus
    ram: int
    memory: np.ndarray
    oa_bits: int  # of the host
    empty: range  # physical addresses at which there is nothing
    cases: tuple[str, ...] = ("random maps", "a bit turned over")  # of cases.py
    unjudged: frozenset[int] = frozenset()  # bits of an entry whose meaning depends on more than the table

    def __init__(self, program: str, name: str, shape: dict[str, Any]):
        self.program, self.name, self.shape = program, name, shape
        self.files = tempfile.TemporaryDirectory(dir=SHARED_MEMORY if Path(SHARED_MEMORY).is_dir() else None)

    def begin(self) -> None:
        try:
            self.edu = Edu(self.bus)
            self.devfn = self.edu.devfn
            self.control = self.ram + CONTROL
            self.set_up()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.machine.close()
        self.files.cleanup()

    def start(self, *arguments: str) -> Machine:
        """A machine whose RAM is a file, which is `memory` here."""
        path = Path(self.files.name, "ram")
        with path.open("wb") as file:
            file.truncate(RAM)
        backend = f"memory-backend-file,id=ram,size={RAM},mem-path={path},share=on"
        machine = Machine(self.program, "-m", str(RAM // MIB), "-object", backend, *arguments)
        self.memory = np.memmap(path, np.uint8, "r+")
        return machine

    def firmware(self, code: bytes) -> str:
        path = Path(self.files.name, "firmware")
        path.write_bytes(code)
        return str(path)

    def pages(self, count: int, size: int = 4096) -> list[int]:
        """Places for the IOMMU's own structures, in RAM that is zero."""
        self.control = (self.control + size - 1) & -size
        first, self.control = self.control, self.control + count * size
        return [first + i * size for i in range(count)]

    def table(self) -> PageTable:
        return PageTable(**self.shape)

    def show(self, table: PageTable) -> ForeignPageTable:
        """Put a page table into guest RAM and give it to the device. Returns our view of the guest's RAM."""
        base = self.ram + TABLES
        self.store(base, table.image(base).tobytes())
        self.table_bits = table.va_bits
        self.point(base, table.top_level + 1)
        self.invalidate()
        shape = dict.fromkeys(table.features, True) | {"va_bits": table.va_bits, "oa_bits": self.oa_bits}
        shape |= {key: self.shape[key] for key in ("format", "granule") if key in self.shape}
        return PageTable.over((self.memory, self.ram), root=base, top_level=table.top_level, **shape)

    def load(self, address: int, size: int) -> bytes:
        return self.memory[address - self.ram : address - self.ram + size].tobytes()

    def store(self, address: int, data: bytes) -> None:
        self.memory[address - self.ram : address - self.ram + len(data)] = np.frombuffer(data, np.uint8)

    def item(self, address: int, value: int | None = None) -> int:
        """A page table's entry; with a value, after it has been written."""
        items = self.memory.view(np.uint64)
        if value is not None:
            items[(address - self.ram) // 8] = value
        return int(items[(address - self.ram) // 8])

    def set_up(self) -> None:
        """Registers and the IOMMU's own structures."""
        raise NotImplementedError

    def point(self, root: int, levels: int) -> None:
        """Give the device a page table."""
        raise NotImplementedError

    def invalidate(self) -> None:
        """Make the IOMMU forget what it has cached."""
        raise NotImplementedError

    def records(self) -> list[Record]:
        """Faults since the last call."""
        raise NotImplementedError

    def judges(self, reason: str, items: list[int]) -> bool:
        """Whether this model looks at what our walker finds wrong."""
        return True

    def expected(self, iova: int, write: bool, reason: str, items: list[int]) -> tuple[Record, ...]:
        """Records that fit a DMA which our walker stops for `reason` after `items`; none: no such record is kept.

        More than one where two things are wrong and nothing says which is looked at first.
        """
        raise NotImplementedError
