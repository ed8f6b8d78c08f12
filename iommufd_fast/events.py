# SPDX-License-Identifier: Apache-2.0
"""Events of vIOMMUs for their guests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iommufd_fast import uapi
from iommufd_fast.errors import check
from iommufd_fast.queues import Queue

if TYPE_CHECKING:
    from iommufd_fast.viommu import Viommu


@dataclass(frozen=True, slots=True)
class Event:
    """An event for a guest, or the marker of lost ones.

    Attributes
    ----------
    sequence : int
        Events are numbered, lost ones too.
    data : bytes
        The type's record; empty for a marker.
    lost : bool
        A marker: the queue was full, and events up to this number were lost.
    missed : int
        How many were lost since the one read before, the marker's own included.
    """

    sequence: int
    data: bytes
    lost: bool
    missed: int


class EventQueue(Queue[Event]):
    """Events of one type of a vIOMMU, made by `Viommu.events`."""

    _made_by = "viommu.events(type, depth)"
    _kind = "event queue"
    viommu: Viommu
    type: int
    depth: int
    _size: int | None
    _next: int

    def _fetch(self, most: int) -> list[Event]:
        found = self._file.read_events(most, self._size or 0, self._size is not None)
        return [self._event(*event) for event in check(found, "read", f"cannot read {self._what()}")]

    def _event(self, flags: int, sequence: int, data: bytes) -> Event:
        lost = bool(flags & uapi.VeventFlag.LOST)
        missed = (sequence - self._next + lost) % (1 << 31)
        self._next = (sequence + 1) % (1 << 31)
        return Event(sequence, data, lost, missed)
