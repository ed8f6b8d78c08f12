# SPDX-License-Identifier: Apache-2.0
"""Figures from one run: `source:case` to a number; the best of several runs is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator


class Figures:
    """Best figure of each case so far. Smaller is better, but for ratios, whose case ends with ``/scaling``."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}
        self.all: dict[str, list[float]] = {}

    def add(self, case: str, value: float) -> None:
        self.all.setdefault(case, []).append(value)
        self.best[case] = (max if case.endswith("/scaling") else min)(self.all[case])

    def update(self, found: Iterable[tuple[str, float]]) -> None:
        for case, value in found:
            self.add(case, value)

    def spread(self, case: str) -> float:
        """Largest minus smallest over the smallest, of the runs: how noisy the machine was."""
        values = self.all.get(case, [])
        return (max(values) - min(values)) / min(values) if len(values) > 1 and min(values) > 0 else 0.0


def of_lines(text: str) -> Iterator[tuple[str, float]]:
    """Cases of the JSON lines that the C benchmarks print: the median round of each."""
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        row = json.loads(line)
        for key in ("ns_median", "bytes_per_mapping", "ratio"):
            if key in row:
                yield f"{row['bench']}:{row['case']}", float(row[key])
