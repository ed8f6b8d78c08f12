# SPDX-License-Identifier: Apache-2.0
"""The replay: first every event checked against the engine's state, then the whole trace timed in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from iommufd_fast.bench import machine, stats
from iommufd_fast.bench.clock import c_clock

from .floors import FLOORS, Floor
from .plan import Plan, Step
from .trace import GRANULE, Event

VERSION = "iommufd-fast-replay/1"
Progress = Callable[[int, int], None]


class ReplayError(RuntimeError):
    """The engine refused an event, or its state is not what the event says: ``FILE:LINE: …``."""


class _Checker:
    """Plays steps into a floor. Each check reads the engine back; nothing is taken from the engine's own word alone."""

    def __init__(self, plan: Plan, floor: Floor) -> None:
        self.plan, self.floor, self.checks = plan, floor, 0

    def wrong(self, event: Event, text: str) -> ReplayError:
        return ReplayError(f"{self.plan.name}:{event.line}: {event}: {text}")

    def expect(self, event: Event, when: str, iova: int, wanted: int | None) -> None:
        got = self.floor.translate(iova)
        self.checks += 1
        if got != wanted:
            names = ["a hole" if v is None else f"{v:#x}" for v in (wanted, got)]
            raise self.wrong(event, f"{when} it, IOVA {iova:#x} should translate to {names[0]}, got {names[1]}")

    def ends(self, event: Event, when: str, piece: Event, mapped: bool) -> None:
        """First and last page of a mapping."""
        for offset in (0, piece.size - GRANULE):
            address = self.floor.address(piece.paddr) + offset if mapped and piece.paddr is not None else None
            self.expect(event, when, piece.iova + offset, address)

    def step(self, step: Step) -> None:
        event = step.event
        for piece in step.pieces or (event,):
            self.ends(event, "before", piece, not event.is_map)
        try:
            self.apply(event)
            problem = self.floor.probe(event)
        except OSError as e:
            raise self.wrong(event, f"refused: {e}") from e
        if problem:
            raise self.wrong(event, problem)
        for piece in step.pieces or (event,):
            self.ends(event, "after", piece, event.is_map)

    def apply(self, event: Event) -> None:
        if event.is_map:
            self.floor.map(event)
            return
        gone = self.floor.unmap(event)
        if gone != event.size:
            raise self.wrong(event, f"{gone} bytes were unmapped, the trace says {event.size}")

    def play(self, progress: Progress | None) -> dict[int, int]:
        """All steps; gives the leaves at the peak."""
        leaves: dict[int, int] = {}
        for i, step in enumerate(self.plan.steps):
            self.step(step)
            if i == self.plan.peak_at:
                leaves = self.floor.leaves()
            if progress and not i % 256:
                progress(i, len(self.plan.steps))
        return leaves


def _times(plan: Plan, floor: Floor, repeat: int) -> dict[str, Any]:
    clock = c_clock()
    tsc = clock.name.startswith("time stamp")
    raw = np.concatenate([clock.ns(floor.timed(plan, tsc)) for _ in range(repeat)])
    ns = stats.correct(raw, clock.overhead_ns)
    kind = np.array([0 if s.event.is_map else 1 + (len(s.pieces) > 1) for s in plan.steps] * repeat)
    names = {"event": kind >= 0, "map": kind == 0, "unmap": kind > 0, "unmap_multi": kind == 2}
    return {name: stats.summary(ns[pick]) for name, pick in names.items() if pick.any()}


def replay(
    plan: Plan, floor: str, *, preset: str = "intel", repeat: int = 5, progress: Progress | None = None
) -> dict[str, Any]:
    """Replay a trace into a fresh engine.

    Parameters
    ----------
    plan : Plan
    floor : {"pagetable", "ioas"}
    preset : {"intel", "amd", "arm", "riscv"}
        The IOMMU of the ioas floor.
    repeat : int
        How often the whole trace is timed.
    progress : callable(done, total), optional

    Returns
    -------
    dict
        Counts, leaves at the peak, the number of checks, and times in ns by kind of event.

    Raises
    ------
    ReplayError
        ``FILE:LINE: …`` when the engine refuses or answers wrongly.
    """
    made: Floor = FLOORS[floor](plan, preset)
    try:
        checker = _Checker(plan, made)
        leaves = checker.play(progress)
        for piece in plan.left:
            checker.ends(piece, "at the end of the trace, after", piece, True)
        times = _times(plan, made, repeat)
    finally:
        made.close()
    return {
        "schema": VERSION,
        "trace": plan.name,
        "floor": floor,
        "target": made.title,
        "preset": preset,
        "events": len(plan.steps),
        "maps": plan.maps,
        "unmaps": len(plan.steps) - plan.maps,
        "multi_map_unmaps": plan.multi,
        "live_peak": plan.peak,
        "live_at_end": len(plan.left),
        "other_lines": plan.skipped,
        "unknown_unmaps": plan.unknown,
        "checks": checker.checks,
        "leaves_at_peak": {str(k): v for k, v in sorted(leaves.items()) if v},
        "times_ns": {k: {n: round(v, 1) for n, v in t.items()} for k, t in times.items()},
        "repeat": repeat,
        "machine": machine.facts(),
    }
