# SPDX-License-Identifier: Apache-2.0
"""Rows of the comparison: figure, peer, ratio, goal, met or not. As text, as JSON, as a page of the docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from figures import Figures
from goals import GOALS, NOTES, Goal

from iommufd_fast.report.peers import VERSION


@dataclass(frozen=True, slots=True)
class Row:
    """One goal with what was measured; `met` is None when our side was not measured."""

    goal: Goal
    ours: float | None
    peer: float | None
    met: bool | None
    spread: float

    @property
    def ratio(self) -> float | None:
        """How many times faster (or smaller) we are than the peer."""
        return self.peer / self.ours if self.peer and self.ours and self.ours > 0 else None


def judged(goal: Goal, ours: float | None, peer: float | None) -> bool | None:
    if ours is None or (goal.unit == "x" and peer is None):
        return None
    if goal.unit == "x":
        return ours <= goal.bound * peer
    return ours >= goal.bound if goal.unit == "times" else ours <= goal.bound


def rows_of(figures: Figures) -> list[Row]:
    rows = []
    for goal in GOALS:
        ours, peer = figures.best.get(goal.ours), figures.best.get(goal.peer)
        rows.append(Row(goal, ours, peer, judged(goal, ours, peer), figures.spread(goal.ours)))
    return rows


def number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "times":
        return f"{value:.2f}x"
    if unit in ("ns", "x"):
        if value >= 1e6:
            return f"{value / 1e6:.3g} ms"
        return f"{value / 1e3:.3g} µs" if value >= 1e4 else f"{value:.3g} ns"
    return f"{value:.3g} {unit}"


def bound(goal: Goal) -> str:
    if goal.unit == "x":
        return "peer's"
    return f"≥ {goal.bound:g}x" if goal.unit == "times" else f"≤ {number(goal.bound, goal.unit)}"


def cells(row: Row) -> tuple[str, ...]:
    """case, peer, ours, ratio, goal, verdict, note: text."""
    verdict = {True: "met", False: "MISSED", None: "not measured"}[row.met]
    ratio = f"{row.ratio:.3g}x" if row.ratio else ""
    peer = number(row.peer, row.goal.unit) if row.goal.peer else ""
    return row.goal.title, peer, number(row.ours, row.goal.unit), ratio, bound(row.goal), verdict, row.goal.note


def summary(rows: list[Row]) -> str:
    """The last line. What was not measured is missed."""
    met = sum(row.met is True for row in rows)
    return f"{len(rows)} goals, {met} met, {len(rows) - met} missed"


def document(
    rows: list[Row],
    figures: Figures,
    machine: dict[str, Any],
    made: str,
    runs: int,
    guest: dict[str, Any] | None,
) -> dict[str, Any]:
    """What `peers.json` holds; `guest` is the document of the benchmark on a kernel in QEMU, if that was run."""
    return {
        "schema": VERSION,
        "made": made,
        "machine": machine,
        "runs": runs,
        "notes": NOTES,
        "rows": [
            {
                "case": row.goal.title,
                "ours": row.ours,
                "peer": row.peer,
                "ratio": row.ratio,
                "goal": row.goal.bound,
                "unit": row.goal.unit,
                "met": row.met,
                "spread": round(row.spread, 3),
                "note": row.goal.note,
                "from": {"ours": row.goal.ours, "peer": row.goal.peer},
            }
            for row in rows
        ],
        "figures": {case: values for case, values in figures.all.items() if not case.startswith("missing:")},
        "guest": guest,
    }


def markdown(rows: list[Row], machine: dict[str, Any], made: str, runs: int) -> str:
    """The table of docs/performance.md, between its two marks."""
    lines = [
        f"Measured {made[:10]} on {machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, "
        f"{machine['compiler']}, Python {machine['python']}; the best of {runs} alternate runs. **{summary(rows)}.**",
        "",
        "| case | peer | ours | ratio | goal | | note |",
        "|---|---|---|---|---|---|---|",
        *("| " + " | ".join(cells(row)) + " |" for row in rows),
        "",
        "Notes: " + "; ".join(f"*{key}*: {text}" for key, text in NOTES.items()) + ".",
    ]
    return "\n".join(lines) + "\n"
