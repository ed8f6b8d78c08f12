# SPDX-License-Identifier: Apache-2.0
"""The two clocks: ticks for loops in C, perf_counter_ns for loops in Python. Each knows what reading it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iommufd_fast._core import benchrig


def invariant_tsc() -> bool:
    """Whether the time stamp counter runs evenly on this machine (and this build can read it)."""
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return benchrig.has_tsc() and {"constant_tsc", "nonstop_tsc"} <= set(flags)


@dataclass(frozen=True)
class Clock:
    """A calibrated clock.

    Attributes
    ----------
    name : str
    ns_per_tick : float
    overhead_ns : float
        Median of an empty interval; subtracted from every single-call measurement.
    resolution_ns : float
        Smallest step between two different readings of an empty interval.
    """

    name: str
    ns_per_tick: float
    overhead_ns: float
    resolution_ns: float

    def ns(self, ticks: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Nanoseconds, overhead included."""
        return ticks.astype(np.float64) * self.ns_per_tick

    def facts(self) -> dict[str, Any]:
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def _step(empty: NDArray[np.uint64]) -> float:
    steps = np.diff(np.unique(empty))
    return float(steps.min()) if len(steps) else 1.0


def c_clock() -> Clock:
    """The clock of the C loops: the time stamp counter if it can be trusted, else CLOCK_MONOTONIC."""
    tsc = invariant_tsc()
    per_tick, empty = benchrig.calibrate(tsc)
    if not tsc:
        per_tick = 1.0
    name = "time stamp counter" if tsc else "clock_gettime(CLOCK_MONOTONIC)"
    return Clock(name, per_tick, float(np.median(empty)) * per_tick, _step(empty) * per_tick)


def python_clock() -> Clock:
    """time.perf_counter_ns, read as the Python loops read it."""
    empty = np.empty(4096, np.uint64)
    for i in range(4096):
        t0 = perf_counter_ns()
        t1 = perf_counter_ns()
        empty[i] = t1 - t0
    return Clock("time.perf_counter_ns", 1.0, float(np.median(empty)), _step(empty))
