# SPDX-License-Identifier: Apache-2.0
"""The memory that a case maps: equal slots of one region, and the addresses of what is live meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import memory
from .matrix import MIB, Case

_WINDOW = 64 * MIB  # slots are spread over as much memory, or over one slot if that is larger
_MOST_SLOTS = 4096


class Work:
    """Slots of `case.length` bytes.

    Attributes
    ----------
    region : memory.Region
    addresses : ndarray of uint64
        One per slot.
    views : list of ndarray of uint8
        The slots as buffers, for the Python path.
    """

    def __init__(self, case: Case) -> None:
        self.length = case.length
        slots = slots_of(case)
        self.region = memory.region(case.memory, slots * case.length)
        self.addresses = self.region.address + np.arange(slots, dtype=np.uint64) * np.uint64(case.length)
        self.views: list[Any] = [self.region.bytes[i * case.length : (i + 1) * case.length] for i in range(slots)]

    def cycle(self, n: int) -> NDArray[np.uint64]:
        """n addresses, the slots round and round."""
        return np.resize(self.addresses, n)

    def buffers(self, n: int) -> list[Any]:
        return [self.views[i % len(self.views)] for i in range(n)]


def slots_of(case: Case) -> int:
    """How many slots a case has: at least what one batch needs, unless that is more than 1 GiB."""
    slots = min(max(_WINDOW // case.length, 1), _MOST_SLOTS)
    return max(slots, min(case.batch, (1 << 30) // case.length))


class Live:
    """4 KiB pages to be kept mapped. Under `trust` each mapping has its own page, and no page is ever touched;
    the other policies and a kernel's pins touch, so there the mappings share 64 MiB (and RLIMIT_MEMLOCK of `mlock`)."""

    def __init__(self, case: Case) -> None:
        page = 4096
        pages = case.live if case.policy == "trust" else min(case.live, _WINDOW // page)
        self.region = memory.region("anonymous", max(pages, 1) * page, touch=False)
        index = np.arange(case.live, dtype=np.uint64) % np.uint64(max(pages, 1))
        self.addresses = self.region.address + index * np.uint64(page)
        self.lengths = np.full(case.live, page, np.uint64)
        self.iovas = np.zeros(case.live, np.uint64)  # filled by the path
