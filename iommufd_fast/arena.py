# SPDX-License-Identifier: Apache-2.0
"""Arenas: memory that is mapped once and carved into buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from iommufd_fast._core import machines
from iommufd_fast._core.arenacore import ArenaCore, DmaBuffer
from iommufd_fast._core.dmamemory import DmaMemory
from iommufd_fast._core.ioascore import IoasCore
from iommufd_fast.dmaarray import page_kind, warn
from iommufd_fast.errors import from_errno

__all__ = ["ArenaStats", "DmaArena", "DmaBuffer"]

_MOST = 128 << 30


@dataclass(frozen=True, slots=True)
class ArenaStats:
    """What an arena has at one moment; bytes count whole buffers, which are powers of two.

    Attributes
    ----------
    mapped, limit : int
        Bytes that are mapped, and that may be.
    taken, cached, high : int
        Bytes that somebody has; that wait in magazines for the next; and the most of both together there ever was.
    takes, gives, refused : int
        Calls that succeeded, and takes that found nothing.
    regions : int
        How many pieces are mapped.
    late_writes : int
        With `poison`: buffers that were written to after they had been given back.
    live, high_by_size : dict of int to int
        By size: buffers that somebody has, and the most that were out of the store (magazines included).
    """

    mapped: int
    limit: int
    taken: int
    cached: int
    high: int
    takes: int
    gives: int
    refused: int
    regions: int
    late_writes: int
    live: dict[int, int]
    high_by_size: dict[int, int]


class DmaArena(ArenaCore):
    """Memory that is mapped once and carved into buffers, made by `Ioas.arena`.

    `take` and `give` may be called from any thread.
    """

    @classmethod
    def _new(cls, ioas: IoasCore, region: int, limit: int | None, page: str, numa: int | None, poison: bool) -> Self:
        size = machines.as_u64(region, "region")
        if size & (size - 1) or not 1 << 16 <= size <= 1 << 30:
            raise ValueError(f"region is {size}; it must be a power of two between {1 << 16} and {1 << 30}")
        most, largest = 64 * size if limit is None else machines.as_u64(limit, "limit"), min(_MOST, 1024 * size)
        if not most or most % size or most > largest:
            raise ValueError(f"limit is {most}; it must be a multiple of region, {size}, up to {largest}")
        self = cls.__new__(cls)
        err = self._begin(ioas, size, most, page_kind(page), numa, poison)
        if err:
            raise from_errno(err, f"cannot make an arena of {most:#x} bytes")
        try:
            self.grow()
        except BaseException:
            self.close()
            raise
        return self

    def _grown(self, memory: DmaMemory) -> None:
        if len(self.memory) == 1:
            warn(memory, "ioas.arena()", stacklevel=6)

    def stats(self) -> ArenaStats:
        """Counters of this moment."""
        found = self._stats()
        live, high = found.pop("live_by_class"), found.pop("high_by_class")
        found.pop("grown")
        return ArenaStats(
            **found,
            live={1 << i: n for i, n in enumerate(live) if n},
            high_by_size={1 << i: n for i, n in enumerate(high) if n},
        )
