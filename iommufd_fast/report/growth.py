# SPDX-License-Identifier: Apache-2.0
"""Plots of how cost grows, with the peers' curves from a stored run beside ours. Each function draws on the axes it is
given and says whether there was anything of ours to draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from iommufd_fast.bench.matrix import size_text

from . import peers, pick
from .plots import COLOUR, Document, figure_of, ticks, times

Stored = dict[str, Any]

PEER = ("#92400e", "#64748b", "#7c3aed")
_MARK = ("s", "^", "D")
THREADS = {
    "own": ("a context each", "#2563eb", "-"),
    "fixed": ("one IOAS, IOVAs 2 MiB apart", "#059669", "-"),
    "many": ("one IOAS, batches of 64", "#7c3aed", "-"),
    "auto": ("one IOAS, single maps", "#ea580c", "-"),
}


def ours(document: Document, curve: str) -> tuple[list[int], list[float]]:
    """x and y of one of the document's curves."""
    found = sorted((p["x"], p["y"]) for p in document["growth"] if p["curve"] == curve)
    return [x for x, _ in found], [y for _, y in found]


def count(n: float) -> str:
    """1 000 as 1k, 10^7 as 10m."""
    for unit, factor in (("m", 1e6), ("k", 1e3)):
        if n >= factor:
            return f"{n / factor:g}{unit}"
    return f"{n:g}"


def _counts(ax: Axes) -> None:
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _legend(ax: Axes) -> None:
    """Between the title and the plot, in as many lines as it takes."""
    n = len(ax.get_legend_handles_labels()[1])
    columns = n if n <= 3 else -(-n // 2)
    lines = -(-n // columns)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.012, 0.985), ncols=columns)
    ax.set_title(ax.get_title(loc="left"), pad=10 + 14 * lines)


def _others(ax: Axes, stored: Stored, panel: str, low: int = 1) -> None:
    """The peers' curves of a panel, dashed; an x below `low` (nothing live) is drawn there."""
    curves = [c for c in peers.CURVES if c.panel == panel]
    names = list(dict.fromkeys(c.name for c in curves))
    for curve in curves:
        x, y = peers.points(stored, curve)
        if not x:
            continue
        i = names.index(curve.name)
        label = f"{curve.name}{'' if curve.op == 'find' else ', ' + curve.op} *"
        line = ":" if curve.op == "unmap" else "--"
        ax.plot([max(v, low) for v in x], y, line, marker=_MARK[i], ms=4, color=PEER[i], lw=1.4, label=label)


def live(ax: Axes, document: Document, stored: Stored) -> bool:
    """One 4 KiB call against live mappings."""
    for op in pick.OPS:
        x, y = ours(document, f"live/{op}")
        if x:
            ax.plot(x, y, marker="o", color=COLOUR[op], label=op)
    if not ax.lines:
        return False
    _others(ax, stored, "live", low=100)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="live mappings (4K); Linux's first point: none",
        title="Cost of a call against live mappings, C",
    )
    _counts(ax)
    times(ax.yaxis)
    _legend(ax)
    return True


def length(ax: Axes, document: Document, stored: Stored) -> bool:
    """One map and one unmap against their length, by 4 KiB leaves and by the largest."""
    results = document["results"]
    for page, line in (("auto", "-"), ("4K", ":")):
        for op in ("map", "unmap"):
            found = pick.along(results, "length", "c", op, page=page)
            if len(found) > 1 and document["growth"]:
                label = f"{op}{', 4K leaves' if page == '4K' else ''}"
                ax.plot([r["length"] for r in found], [r["per_call"] for r in found], line, marker="o",
                        color=COLOUR[op], label=label)  # fmt: skip
    if not ax.lines:
        return False
    _others(ax, stored, "length")
    ax.set(xscale="log", yscale="log", xlabel="length of the mapping", title="Cost of a call against its length, C")
    ticks(ax, pick.values(results, "length"), size_text)
    times(ax.yaxis)
    _legend(ax)
    return True


def memory(ax: Axes, document: Document, stored: Stored) -> bool:
    """What a live mapping takes of the process's memory."""
    x, y = ours(document, "memory")
    if not x:
        return False
    ax.plot(x, y, marker="o", color=COLOUR["map"], label="growth of the process: index, record, leaf entry")
    ax.set(xscale="log", yscale="log", xlabel="live mappings (4K)", title="Memory of a live mapping")
    ax.set_ylim(10, max(1000, max(y) * 1.3))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} B"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    for at, value in zip(x, y, strict=True):
        ax.annotate(f"{value:.0f}", (at, value), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=8)
    _counts(ax)
    _legend(ax)
    return True


def threads(ax: Axes, document: Document, stored: Stored) -> bool:
    """Map + unmap by each of several threads at once: flat is perfect."""
    seen: set[int] = set()
    for name, (label, colour, line) in THREADS.items():
        x, y = ours(document, f"threads/{name}")
        seen.update(x)
        if x:
            ax.plot(x, y, line, marker="o", color=colour, label=label)
    if not ax.lines:
        return False
    ax.set(xlabel="threads at once (flat: each as fast as one alone)", title="Map + unmap by each of the threads, C")
    ax.set_xscale("log", base=2)
    ticks(ax, sorted(seen), str)
    ax.set_xlim(min(seen) * 0.9, max(seen) * 1.1)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(MaxNLocator(6))
    times(ax.yaxis)
    _legend(ax)
    return True


def ranges(ax: Axes, document: Document, stored: Stored) -> bool:
    """Look-up of the range that holds an address."""
    for name, label, line in (("find", "IovaSpace.find", "-"), ("find_many", "find_many, per range", ":")):
        x, y = ours(document, f"ranges/{name}")
        if x:
            ax.plot(x, y, line, marker="o", color=COLOUR["translate"], label=label)
    if not ax.lines:
        return False
    _others(ax, stored, "ranges")
    ax.set(xscale="log", yscale="log", xlabel="ranges in the set", title="Random look-up of a range, Python")
    _counts(ax)
    times(ax.yaxis)
    _legend(ax)
    return True


PLOTS: dict[str, Callable[..., bool]] = {
    "growth-live": live,
    "growth-length": length,
    "growth-threads": threads,
    "growth-memory": memory,
    "growth-ranges": ranges,
}


def figures(document: Document, stored: Stored) -> dict[str, Figure | None]:
    """Every plot that the document has something for, as a figure of its own."""
    drawn = {name: figure_of(partial(draw, document=document, stored=stored)) for name, draw in PLOTS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}
