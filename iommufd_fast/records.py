# SPDX-License-Identifier: Apache-2.0
"""What handles tell about one moment: plain frozen records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MappingInfo:
    """One mapping: the closed range, where it leads, and what devices may do.

    `address` is one of this process, or the offset in the file when `kind` is "file" and not "memory".
    """

    iova: int
    last: int
    address: int
    access: str
    kind: str = "memory"

    @property
    def length(self) -> int:
        """Bytes."""
        return self.last - self.iova + 1


@dataclass(frozen=True, slots=True)
class LeafInfo:
    """One entry of a page table: its first IOVA, where that leads, its size in bytes, and "r", "w", "rw" or ""."""

    iova: int
    address: int
    size: int
    prot: str


@dataclass(frozen=True, slots=True)
class IoasStats:
    """Counters of an IOAS. `maps`, `unmaps` and `copies` are calls that succeeded since it was made."""

    mappings: int
    bytes_mapped: int
    maps: int
    unmaps: int
    copies: int
    pinned_pages: int
    alignment: int
    hwpts: int
    endpoints: int
    large_pages: bool
    index_bytes: int
    record_bytes: int
    table_bytes: int


@dataclass(frozen=True, slots=True)
class ContextStats:
    """What a context holds; mappings and bytes are sums over its IOASes."""

    devices: int
    endpoints: int
    ioases: int
    hwpts: int
    mappings: int
    bytes_mapped: int
