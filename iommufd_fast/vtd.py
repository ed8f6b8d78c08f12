# SPDX-License-Identifier: Apache-2.0
"""VT-d's way from a device to its page table, in memory: root table, context tables, PASID tables.

Intel Virtualization Technology for Directed I/O, "Root Entry", "Context Entry", "Scalable-Mode Context Entry",
"Scalable-Mode PASID Table Entry". What starts it is the Root Table Address register (RTADDR, at 0x20), as it is: its
bits 11:10 say whether the tables are scalable mode's.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from iommufd_fast._core.pagetable import PageTable
from iommufd_fast._core.ptforeign import ForeignPageTable
from iommufd_fast.errors import from_errno

PAGE_MASK = ~0xFFF & (1 << 64) - 1
KINDS = {1: "first", 2: "second", 3: "nested", 4: "pass"}  # PGTT
Reader = Callable[[int], "int | None"]


class DeviceTable(NamedTuple):
    """Where a device's DMA goes: "first", "second", "nested" or "pass" (through, untranslated).

    `device` is bus << 8 | device << 3 | function; `first` and `second` are (root, levels) or None.
    """

    device: int
    domain: int
    kind: str
    first: tuple[int, int] | None
    second: tuple[int, int] | None

    def __str__(self) -> str:
        stages = [
            f"{name} stage at {found[0]:#x}, {found[1]} levels"
            for name, found in (("first", self.first), ("second", self.second))
            if found
        ]
        return f"{name_of(self.device)}  domain {self.domain}  {' over '.join(stages) or 'not translated'}"


def name_of(device: int) -> str:
    """A device's number as 00:1f.2."""
    return f"{device >> 8:02x}:{device >> 3 & 31:02x}.{device & 7}"


def number_of(name: str) -> int:
    """The number of a device that is called 00:1f.2 or 0000:00:1f.2."""
    found = re.fullmatch(r"(?:0+:)?([0-9a-f]{1,2}):([01]?[0-9a-f])\.([0-7])", name.lower())
    if not found:
        raise ValueError(f"device is {name!r}; it is bus:device.function, as in 00:1f.2")
    return int(found[1], 16) << 8 | int(found[2], 16) << 3 | int(found[3])


def reader(memory: Any, base: int = 0) -> Reader:
    """What reads 8 bytes at a time from an array or mmap whose first byte is at address `base`."""
    items = np.frombuffer(memory, np.uint8)

    def read(address: int) -> int | None:
        at = address - base
        return int(items[at : at + 8].view(np.uint64)[0]) if 0 <= at <= len(items) - 8 else None

    return read


def _entry(read: Reader, address: int, words: int) -> list[int]:
    items = [read(address + 8 * i) for i in range(words)]
    if None in items:
        raise from_errno(errno.EFAULT, f"{address:#x}, where an entry of VT-d's tables should be, is not in the memory")
    return [item for item in items if item is not None]


def _legacy(read: Reader, root: int, device: int) -> DeviceTable | None:
    low, _ = _entry(read, root + 16 * (device >> 8), 2)
    if not low & 1:
        return None
    low, high = _entry(read, (low & PAGE_MASK) + 16 * (device & 255), 2)
    if not low & 1:
        return None
    domain = high >> 8 & 0xFFFF
    if low >> 2 & 3 == 2:
        return DeviceTable(device, domain, "pass", None, None)
    return DeviceTable(device, domain, "second", None, (low & PAGE_MASK, (high & 7) + 2))


def _scalable(read: Reader, root: int, device: int) -> DeviceTable | None:
    half = _entry(read, root + 16 * (device >> 8), 2)[device >> 7 & 1]
    if not half & 1:
        return None
    context = _entry(read, (half & PAGE_MASK) + 32 * (device & 127), 4)
    if not context[0] & 1:
        return None
    pasid = context[1] & 0xFFFFF  # of requests without one
    (directory,) = _entry(read, (context[0] & PAGE_MASK) + 8 * (pasid >> 6), 1)
    if not directory & 1:
        return None
    entry = _entry(read, (directory & PAGE_MASK) + 64 * (pasid & 63), 3)
    kind = KINDS.get(entry[0] >> 6 & 7)
    if not entry[0] & 1 or kind is None:
        return None
    first = (entry[2] & PAGE_MASK, (entry[2] >> 2 & 3) + 4) if kind in ("first", "nested") else None
    second = (entry[0] & PAGE_MASK, (entry[0] >> 2 & 7) + 2) if kind in ("second", "nested") else None
    return DeviceTable(device, entry[1] & 0xFFFF, kind, first, second)


def device_table(read: Reader, register: int, device: int) -> DeviceTable | None:
    """Look one device up; None when nothing is set up for it.

    Parameters
    ----------
    read : callable
        Takes an address, a multiple of 8; returns the 8 bytes there as an integer, None where there is no memory.
    register : int
        The value of RTADDR.
    device : int
        Bus << 8 | device << 3 | function; `number_of` makes it from a name.

    Raises
    ------
    OSError
        EFAULT: an entry is not in the memory. EINVAL: the register asks for a mode that is none.
    """
    mode = register >> 10 & 3
    if mode > 1:
        raise from_errno(
            errno.EINVAL, f"RTADDR is {register:#x}: its table mode, bits 11:10, is {mode}; 0 and 1 are modes"
        )
    return (_scalable if mode else _legacy)(read, register & PAGE_MASK, device)


def devices(read: Reader, register: int) -> Iterator[DeviceTable]:
    """Every device that something is set up for."""
    for bus in range(256):
        if any(half & 1 for half in _entry(read, (register & PAGE_MASK) + 16 * bus, 2)):
            found = (device_table(read, register, bus << 8 | devfn) for devfn in range(256))
            yield from (table for table in found if table is not None)


def page_table(memory: Any, found: DeviceTable) -> ForeignPageTable:
    """The page table of a device, or two over one another; `memory` is what `PageTable.over` takes."""
    second = first = None
    if found.second:
        root, levels = found.second
        second = PageTable.over(memory, format="vtdss", root=root, va_bits=12 + 9 * levels)
    if found.first:
        root, levels = found.first
        shape: dict[str, Any] = {"va_bits": 12 + 9 * levels, "sign_extend": True, "through": second}
        first = PageTable.over(memory, format="x86_64", root=root, **shape)
    table = first or second
    if table is None:
        raise from_errno(
            errno.ENOENT, f"{name_of(found.device)}: DMA passes through untranslated; there is no page table"
        )
    return table
