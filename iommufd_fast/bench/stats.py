# SPDX-License-Identifier: Apache-2.0
"""Statistics of latencies: percentiles, a compact distribution, and how much rounds differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Where a stored distribution is sampled: every percent, then the tail. The last one is the largest value.
GRID = (*(i / 100 for i in range(100)), 0.995, 0.999, 0.9999, 1.0)

Floats = NDArray[np.float64]


def correct(ns: Floats, overhead: float) -> Floats:
    """Intervals without the cost of the clock itself; never below 0."""
    return np.maximum(ns - overhead, 0.0)


def percentile(sorted_ns: Floats, q: float) -> float:
    """The smallest value that is at least as large as a share q of all (nearest rank, no interpolation)."""
    n = len(sorted_ns)
    if not n:
        raise ValueError("no values to take a percentile of")
    rank = int(np.ceil(q * n - 1e-9))
    return float(sorted_ns[min(max(rank, 1), n) - 1])


def summary(ns: Floats) -> dict[str, float | int]:
    """n, min, p50, p90, p99, max and mean of one sample."""
    ordered = np.sort(ns)
    return {
        "n": len(ordered),
        "min": float(ordered[0]),
        "p50": percentile(ordered, 0.50),
        "p90": percentile(ordered, 0.90),
        "p99": percentile(ordered, 0.99),
        "max": float(ordered[-1]),
        "mean": float(ordered.mean()),
    }


def quantiles(ns: Floats) -> list[float]:
    """The distribution at GRID, rounded to 0.01 ns."""
    ordered = np.sort(ns)
    return [round(percentile(ordered, q), 2) for q in GRID]


def noise(medians: Sequence[float]) -> float:
    """How far the rounds' medians lie apart: (largest - smallest) / their median; 0 for a single round."""
    if len(medians) < 2:
        return 0.0
    middle = float(np.median(medians))
    return (max(medians) - min(medians)) / middle if middle > 0 else 0.0


def throughput(ns: Floats) -> float:
    """Operations per second, from the median time of one."""
    middle = float(np.median(ns))
    return 1e9 / middle if middle > 0 else 0.0
