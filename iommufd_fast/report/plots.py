# SPDX-License-Identifier: Apache-2.0
"""Plots of a result document, by matplotlib. Each function draws on the axes it is given and says whether there was
anything to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from iommufd_fast.bench.matrix import count_text, size_text

from . import pick
from .units import speed_text, time_text

Document = dict[str, Any]
COLOUR = {"map": "#2563eb", "translate": "#059669", "unmap": "#ea580c"}
LINE = {"c": "-", "python": "--"}
NAME = {"c": "C", "python": "Python"}
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 24,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": "#334155",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e8f0",
    "grid.linewidth": 0.7,
    "xtick.color": "#475569",
    "ytick.color": "#475569",
    "text.color": "#0f172a",
    "lines.linewidth": 1.9,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
    "legend.borderpad": 0.1,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "iommufd-fast",
    "figure.constrained_layout.use": True,
}


@contextmanager
def style() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE):
        yield


def times(axis: Any) -> None:
    """Decades of nanoseconds, written as people say them; between them 2 and 5 where there are few."""
    low, high = sorted(axis.get_view_interval())
    if axis.get_scale() == "log" and high / low < 200:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: _short(v)))
    axis.set_minor_formatter(NullFormatter())


def _short(ns: float) -> str:
    return _plain(time_text(ns))


def _plain(text: str) -> str:
    """10.0 ns as 10 ns."""
    number, _, unit = text.partition(" ")
    return f"{float(number):g} {unit}"


def ticks(ax: Axes, values: list[Any], text: Callable[[int], str], at: list[float] | None = None) -> None:
    """Marks where the values are, and no others."""
    ax.xaxis.set_major_locator(FixedLocator(at or values))
    ax.xaxis.set_major_formatter(FixedFormatter([text(v) for v in values]))
    ax.xaxis.set_minor_locator(NullLocator())


def _legend(ax: Axes, by_kind: bool = True) -> None:
    """One line between the title and the plot, where no curve can be: the colours, then the kinds of line."""
    handles, labels = ax.get_legend_handles_labels()
    if by_kind:
        shown = [label.split(", ")[0] for label in labels], [label.split(", ")[1] for label in labels]
        handles = [Line2D([], [], color=COLOUR[op], lw=3) for op in pick.OPS if op in shown[0]]
        labels = [op for op in pick.OPS if op in shown[0]]
        kinds = [(LINE[path], NAME[path]) for path in pick.PATHS if NAME[path] in shown[1]]
        handles += [Line2D([], [], color="#475569", ls=ls) for ls, _ in kinds]
        labels += [name for _, name in kinds]
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.012, 0.985), ncols=len(handles))


def live(ax: Axes, document: Document) -> bool:
    """Cost of one call against what else is mapped, both axes logarithmic; the band reaches up to p99."""
    results, drawn = document["results"], False
    all_values = pick.values(results, "live")
    at = [max(v, 100.0) if v == 0 else float(v) for v in all_values]  # 0 has no place on a log axis
    place = dict(zip(all_values, at, strict=True))
    for path in pick.PATHS:
        for op in pick.OPS:
            line = pick.along(results, "live", path, op)
            if len(line) < 2:
                continue
            x = [place[r["live"]] for r in line]
            ax.plot(
                x, [r["per_call"] for r in line], LINE[path], marker="o", color=COLOUR[op], label=f"{op}, {NAME[path]}"
            )
            if path == "c":
                ax.fill_between(
                    x,
                    [r["per_call"] for r in line],
                    [max(r["p99"], r["per_call"]) for r in line],
                    color=COLOUR[op],
                    alpha=0.10,
                    lw=0,
                )
            drawn = True
    if drawn:
        ax.set(xscale="log", yscale="log", title="Cost of a call against live mappings")
        ax.set_xlabel("live mappings (4K); shaded: up to p99, C")
        ticks(ax, all_values, count_text, at)
        times(ax.yaxis)
        _legend(ax)
    return drawn


def distribution(ax: Axes, document: Document, path: str) -> bool:
    """Which share of the calls took at most so long."""
    results, drawn, grid = document["results"], False, document["grid"]
    low, high = float("inf"), 0.0
    for op in pick.OPS:
        result = pick.one(results, path, op)
        if result is None:
            continue
        x = [max(v, 0.5) for v in result["quantiles"]]
        ax.step(x, grid, where="post", color=COLOUR[op], label=f"{op} {time_text(result['p50'])}")
        ax.plot([result["p99"]], [0.99], "|", color=COLOUR[op], ms=11, mew=2)
        low, high, drawn = min(low, x[0]), max(high, result["quantiles"][grid.index(0.999)]), True
    if drawn:
        ax.set(xscale="log", ylim=(0, 1.02), xlim=(low * 0.8, high * 1.6), title=f"Latency distribution, {NAME[path]}")
        ax.set(xlabel="time of one call; in the legend the median, the mark is p99", ylabel="share of calls")
        times(ax.xaxis)
        _legend(ax, by_kind=False)
    return drawn


def length(ax: Axes, document: Document) -> bool:
    """Time of one map or unmap against its length; 4K leaves only as the thin lines."""
    results, drawn = document["results"], False
    for page, alpha, width in (("auto", 1.0, 1.9), ("4K", 0.55, 1.1)):
        for op in ("map", "unmap"):
            line = pick.along(results, "length", "c", op, page=page) or pick.along(
                results, "length", "python", op, page=page
            )
            if len(line) < 2:
                continue
            label = f"{op}{'' if page == 'auto' else ', 4K leaves'}"
            x, y = [r["length"] for r in line], [r["per_call"] for r in line]
            look: Any = {"alpha": alpha, "lw": width, "ls": "-" if page == "auto" else ":"}
            ax.plot(x, y, marker="o", color=COLOUR[op], label=label, **look)
            drawn = True
    if drawn:
        ax.set(xscale="log", yscale="log", xlabel="length of the mapping", title="Cost of a call against length")
        ticks(ax, pick.values(results, "length"), size_text)
        times(ax.yaxis)
        _legend(ax, by_kind=False)
    return drawn


def throughput(ax: Axes, document: Document) -> bool:
    """Bytes mapped or unmapped per second."""
    results, drawn = document["results"], False
    for path in pick.PATHS:
        for op in ("map", "unmap"):
            line = pick.along(results, "length", path, op)
            if len(line) < 2:
                continue
            x, y = [r["length"] for r in line], [r["bytes_per_second"] for r in line]
            ax.plot(x, y, LINE[path], marker="o", color=COLOUR[op], label=f"{op}, {NAME[path]}")
            drawn = True
    if drawn:
        ax.set(xscale="log", yscale="log", xlabel="length of the mapping", title="Throughput against length")
        ticks(ax, pick.values(results, "length"), size_text)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _plain(speed_text(v))))
        ax.yaxis.set_minor_formatter(NullFormatter())
        _legend(ax)
    return drawn


def batch(ax: Axes, document: Document) -> bool:
    """Time per range against how many ranges go into one call."""
    results, drawn = document["results"], False
    for path in pick.PATHS:
        for op in pick.OPS:
            line = pick.along(results, "batch", path, op)
            if len(line) < 2:
                continue
            ax.plot(
                [r["batch"] for r in line],
                [r["per_call"] for r in line],
                LINE[path],
                marker="o",
                color=COLOUR[op],
                label=f"{op}, {NAME[path]}",
            )
            drawn = True
    if drawn:
        ax.set(xscale="log", yscale="log", xlabel="ranges in one call", title="Cost per range in batches")
        ticks(ax, pick.values(results, "batch"), str)
        times(ax.yaxis)
        _legend(ax)
    return drawn


def kinds(ax: Axes, document: Document) -> bool:
    """Map and unmap by kind of memory and by how it is held: bars, whiskers to p99."""
    results = document["results"]
    names: list[tuple[str, str]] = []
    drawn = False
    for axis in ("memory", "policy", "preset"):
        for value in pick.values(results, axis):
            if value not in [n for _, n in names] and (axis == "memory" or value != pick.base(results)[axis]):
                names.append((axis, value))
    for shift, op in ((-0.19, "map"), (0.19, "unmap")):
        for i, (axis, value) in enumerate(names):
            found = pick.one(results, "c", op, **{axis: value}) or pick.one(results, "python", op, **{axis: value})
            if found is None:
                continue
            ax.bar(i + shift, found["per_call"], 0.36, color=COLOUR[op], label=None if drawn and i else op)
            ax.plot([i + shift] * 2, [found["per_call"], found["p99"]], color="#475569", lw=1)
            drawn = True
    if drawn:
        handles = {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        ax.set(title="Memory, holding and preset (whisker: p99)")
        ticks(ax, [n for _, n in names], str, [float(i) for i in range(len(names))])
        times(ax.yaxis)
        ax.legend(
            handles.values(), handles.keys(), loc="lower left", bbox_to_anchor=(-0.012, 0.985), ncols=len(handles)
        )
        ax.grid(axis="x", visible=False)
    return drawn and len(names) > 1


PLOTS: dict[str, Callable[[Axes, Document], bool]] = {
    "live": live,
    "distribution-c": lambda ax, d: distribution(ax, d, "c"),
    "distribution-python": lambda ax, d: distribution(ax, d, "python"),
    "length": length,
    "throughput": throughput,
    "batch": batch,
    "kinds": kinds,
}


def figure_of(draw: Callable[[Axes], bool]) -> Figure | None:
    """A plot as a figure of its own; None when there was nothing to draw."""
    with style():
        made = Figure(figsize=(6.4, 3.9))
        return made if draw(made.add_subplot()) else None


def figure(name: str, document: Document) -> Figure | None:
    """One plot as a figure of its own; None when the document has nothing for it."""
    return figure_of(lambda ax: PLOTS[name](ax, document))


def overview(document: Document) -> Figure:
    """The four most telling plots in one picture."""
    with style():
        made = Figure(figsize=(12.4, 7.6))
        axes = made.subplots(2, 2)
        for ax, name in zip(axes.flat, ("live", "distribution-c", "throughput", "batch"), strict=True):
            if not PLOTS[name](ax, document):
                ax.set_axis_off()
        m = document["machine"]
        made.suptitle(
            f"iommufd_fast {m['iommufd_fast']}: {m['cpu']}, Linux {m['kernel']}, {m['compiler'] or 'unknown compiler'}",
            x=0.01, ha="left", fontsize=9, color="#475569",
        )  # fmt: skip
        return made


def save_overview(document: Document, path: Any) -> None:
    """The overview as a PNG of few bytes."""
    overview(document).savefig(path, dpi=110, metadata={"Software": None})
