# SPDX-License-Identifier: Apache-2.0
"""Real process memory of each kind to map: anonymous 4K pages, transparent huge pages, a memfd, hugetlb."""

from __future__ import annotations

import mmap
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import machine

KINDS = ("anonymous", "thp", "memfd", "hugetlb")
_HUGE = 2 << 20
_MAP_HUGETLB = 0x40000
_MAP_HUGE_2MB = 21 << 26


class Unavailable(RuntimeError):
    """This machine has no memory of that kind now; the text says why and what would help."""


@dataclass
class Region:
    """A stretch of memory that lives as long as this object.

    Attributes
    ----------
    kind : str
    size : int
        Bytes; starts at a multiple of 2 MiB.
    bytes : ndarray of uint8
        The memory itself.
    """

    kind: str
    size: int
    bytes: NDArray[np.uint8]
    _owner: Any = field(repr=False, default=None)

    @property
    def address(self) -> int:
        return int(self.bytes.ctypes.data)

    def huge_bytes(self) -> int:
        """How much of it really lies in transparent huge pages."""
        return _smaps_sum(self.address, self.size, ("AnonHugePages", "ShmemPmdMapped"))

    def touch(self) -> None:
        """Make every page present."""
        self.bytes[:: mmap.PAGESIZE] = 1


def _smaps_sum(address: int, size: int, keys: tuple[str, ...]) -> int:
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if head:
            inside = int(head[1], 16) < address + size and int(head[2], 16) > address
        elif inside and line.startswith(keys):
            total += int(line.split()[1]) * 1024
    return total


def _aligned(area: mmap.mmap, size: int) -> NDArray[np.uint8]:
    """A view of `size` bytes that starts at a multiple of 2 MiB."""
    whole = np.frombuffer(area, np.uint8)
    skip = -int(whole.ctypes.data) % _HUGE
    return whole[skip : skip + size]


def _anonymous(size: int, advice: int | None) -> tuple[mmap.mmap, NDArray[np.uint8]]:
    area = mmap.mmap(
        -1, size + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    )
    if advice is not None:
        area.madvise(advice)
    return area, _aligned(area, size)


def _memfd(size: int) -> tuple[mmap.mmap, NDArray[np.uint8]]:
    fd = os.memfd_create("iommufd-fast-bench", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size + _HUGE)
        area = mmap.mmap(fd, size + _HUGE, flags=mmap.MAP_SHARED)
    finally:
        os.close(fd)
    return area, _aligned(area, size)


def _hugetlb(size: int) -> tuple[mmap.mmap, NDArray[np.uint8]]:
    size += -size % _HUGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_HUGETLB | _MAP_HUGE_2MB
    try:
        area = mmap.mmap(-1, size, flags=flags)
    except OSError as e:
        raise Unavailable(f"hugetlb: {size >> 21} pages of 2 MiB were refused ({e.strerror})") from None
    return area, np.frombuffer(area, np.uint8)


def why_not(kind: str, size: int) -> str | None:
    """None when a region of this kind and size can be had; else the reason."""
    if kind not in KINDS:
        raise ValueError(f"memory kind {kind!r}: one of {', '.join(KINDS)}")
    if kind == "thp" and machine.chosen("/sys/kernel/mm/transparent_hugepage/enabled") in (None, "never"):
        return "thp: transparent huge pages are off (/sys/kernel/mm/transparent_hugepage/enabled)"
    if kind == "hugetlb":
        need, free = -(-size // _HUGE), machine.huge_pools().get(_HUGE, 0)
        if free < need:
            has = f"{need} free pages of 2 MiB are needed, the machine has {free}"
            return f"hugetlb: {has} (sysctl vm.nr_hugepages={need})"
    return None


def region(kind: str, size: int, *, touch: bool = True) -> Region:
    """Memory of a kind; Unavailable when the machine has none.

    Parameters
    ----------
    kind : {"anonymous", "thp", "memfd", "hugetlb"}
    size : int
        Bytes.
    touch : bool
        Make the pages present (False: address space only).
    """
    reason = why_not(kind, size)
    if reason:
        raise Unavailable(reason)
    if kind == "memfd":
        owner, view = _memfd(size)
    elif kind == "hugetlb":
        owner, view = _hugetlb(size)
    else:
        owner, view = _anonymous(size, mmap.MADV_HUGEPAGE if kind == "thp" else mmap.MADV_NOHUGEPAGE)
    made = Region(kind, size, view[:size], owner)
    if touch:
        made.touch()
    return made
