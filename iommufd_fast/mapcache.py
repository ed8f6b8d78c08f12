# SPDX-License-Identifier: Apache-2.0
"""Caches of mappings: a buffer is mapped when it is first used, and stays mapped while there is room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from iommufd_fast._core import machines
from iommufd_fast._core.ioascore import IoasCore, access_flags
from iommufd_fast._core.mapcache import CachedMapping, MapCacheCore
from iommufd_fast.errors import from_errno

__all__ = ["CachedMapping", "MapCache", "MapCacheStats"]


@dataclass(frozen=True, slots=True)
class MapCacheStats:
    """What a cache has done, and has.

    Attributes
    ----------
    hits, misses : int
        Answers without and with mapping. A few hits may be lost between threads.
    joined, evicted, invalidated, refused : int
        Misses that were mapped together with a neighbour; entries that made room; that were invalidated; gets for which
        there was no room.
    entries, bytes, in_use : int
        What is mapped now.
    watched, unwatched, events : int
        With `watch`: misses whose memory could be watched, or not; times that memory went.
    """

    hits: int
    misses: int
    joined: int
    evicted: int
    invalidated: int
    refused: int
    entries: int
    bytes: int
    in_use: int
    watched: int
    unwatched: int
    events: int


class MapCache(MapCacheCore):
    """A cache of mappings, made by `Ioas.map_cache`. Everything may be called from any thread."""

    @classmethod
    def _new(
        cls,
        ioas: IoasCore,
        access: str,
        max_bytes: int | None,
        max_entries: int,
        max_joined: int,
        join: bool,
        watch: bool,
        keep: bool,
    ) -> Self:
        entries, joined = machines.as_u64(max_entries, "max_entries"), machines.as_u64(max_joined, "max_joined")
        size = 0 if max_bytes is None else machines.as_u64(max_bytes, "max_bytes")
        if not entries or max_bytes == 0 or not joined:
            raise ValueError("max_bytes, max_entries and max_joined must be at least 1")
        self = cls.__new__(cls)
        err = self._begin(ioas, access_flags(access), size, entries, joined, join, watch, keep)
        if err:
            why = ": memory cannot be watched here (userfaultfd); use watch=False and invalidate()" if watch else ""
            raise from_errno(err, f"cannot make a MapCache{why}")
        return self

    def stats(self) -> MapCacheStats:
        """Counters of this moment."""
        return MapCacheStats(**self._stats())
