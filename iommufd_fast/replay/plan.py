# SPDX-License-Identifier: Apache-2.0
"""A trace with its meaning worked out: which maps each unmap removes, and where the most mappings live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ledger import Ledger, without_unknown
from .trace import Event, Trace

Column = NDArray[np.uint64]
UNMAP = 1 << 63  # in the size column: this event is an unmap


class Step(NamedTuple):
    """An event, and for an unmap the maps it removes (ascending, tiling it)."""

    event: Event
    pieces: tuple[Event, ...]


@dataclass(frozen=True)
class Plan:
    """The steps of a consistent trace.

    Attributes
    ----------
    peak, peak_at : int
        Most mappings live at once, and the step after which it is first so.
    left : tuple of Event
        Maps still live at the end.
    unknown : int
        Unmaps left out because their range was mapped before the recording.
    """

    name: str
    steps: tuple[Step, ...]
    peak: int
    peak_at: int
    left: tuple[Event, ...]
    skipped: int
    unknown: int

    @property
    def maps(self) -> int:
        return sum(s.event.is_map for s in self.steps)

    @property
    def multi(self) -> int:
        """Unmaps that remove several maps at once."""
        return sum(len(s.pieces) > 1 for s in self.steps)

    def columns(self, address: Callable[[int], int]) -> tuple[Column, Column, Column]:
        """iova, address and size of each event, as the C loop takes them."""
        iovas = np.array([s.event.iova for s in self.steps], np.uint64)
        addresses = np.array([0 if s.event.paddr is None else address(s.event.paddr) for s in self.steps], np.uint64)
        sizes = np.array([s.event.size | (0 if s.event.is_map else UNMAP) for s in self.steps], np.uint64)
        return iovas, addresses, sizes


def make(trace: Trace, *, skip_unknown: bool = False) -> Plan:
    """Check that a trace makes sense by itself.

    Raises
    ------
    TraceError
        A map over a live map, an unmap of nothing or through the middle of a map: with the line.
    """
    unknown = 0
    if skip_unknown:
        trace, unknown = without_unknown(trace)
    ledger = Ledger(trace.name)
    steps, peak, peak_at = [], 0, 0
    for i, event in enumerate(trace.events):
        if event.is_map:
            ledger.map(event)
            steps.append(Step(event, ()))
        else:
            steps.append(Step(event, tuple(ledger.unmap(event))))
        if len(ledger) > peak:
            peak, peak_at = len(ledger), i
    left = tuple(ledger.inside(0, 1 << 64))
    return Plan(trace.name, tuple(steps), peak, peak_at, left, trace.skipped, unknown)
