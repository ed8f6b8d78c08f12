# SPDX-License-Identifier: Apache-2.0
"""Growth curves as one picture: cost against live mappings, length and threads, memory against live mappings."""

from __future__ import annotations

import re
from pathlib import Path

from figures import Figures

from iommufd_fast.report.peers import CURVES

OTHERS = {(curve.panel, curve.op, curve.name): curve.pattern for curve in CURVES}
LINUX = "Linux 7.2"
OURS, PEER = "#1f5fa8", "#b5651d"


def series(figures: Figures, pattern: str) -> tuple[list[float], list[float]]:
    """(x, y) of all cases that match; the first group is x."""
    found = []
    for case, value in figures.best.items():
        match = re.fullmatch(pattern, case)
        if match:
            found.append((float(match[1]), value))
    xs, ys = zip(*sorted(found), strict=True) if found else ((), ())
    return list(xs), list(ys)


# title, axis, (label, pattern, colour, line)
PANELS = [
    (
        "4 KiB call against live mappings",
        ("live mappings", "ns per call"),
        [
            ("map", r"growth:live/map/(\d+)", OURS, "o-"),
            ("unmap", r"growth:live/unmap/(\d+)", OURS, "o--"),
            ("Linux map (uniprocessor, pins)", OTHERS["live", "map", LINUX], PEER, "s-"),
            ("Linux unmap", OTHERS["live", "unmap", LINUX], PEER, "s--"),
        ],
    ),
    (
        "one call against its length",
        ("bytes", "ns per call"),
        [
            ("map, largest leaves", r"growth:length/map/(\d+)", OURS, "o-"),
            ("map, 4 KiB leaves", r"growth:length_by_4k/map/(\d+)", OURS, "o:"),
            ("unmap, 4 KiB leaves", r"growth:length_by_4k/unmap/(\d+)", OURS, "o--"),
            ("Linux map (pins)", OTHERS["length", "map", LINUX], PEER, "s-"),
        ],
    ),
    (
        "an ordered set of ranges: random look-up",
        ("ranges", "ns per look-up"),
        [
            ("IOVA index", r"iova:find/shuffled/random/(\d+)", OURS, "o-"),
            ("GTree (C)", OTHERS["ranges", "find", "GLib's GTree (C)"], PEER, "s-"),
            ("IovaSpace (Python)", r"iova_space:find/(\d+)", OURS, "o--"),
            ("sortedcontainers (Python)", OTHERS["ranges", "find", "sortedcontainers"], PEER, "s--"),
            ("intervaltree (Python)", OTHERS["ranges", "find", "intervaltree"], PEER, "^--"),
        ],
    ),
    ("memory", ("live mappings", "bytes per mapping"), [("process growth", r"growth:rss/(\d+)", OURS, "o-")]),
    (
        "map + unmap of 4 KiB by each of several threads",
        ("threads", "ns per pair"),
        [
            ("an IOAS each", r"threads:own/auto/(\d+)", OURS, "o-"),
            ("one IOAS, FIXED apart", r"threads:shared/fixed/(\d+)", OURS, "o--"),
            ("one IOAS, map_many of 64", r"threads:shared/many/(\d+)", OURS, "o-."),
            ("one IOAS, single automatic", r"threads:shared/auto/(\d+)", OURS, "o:"),
        ],
    ),
]


def draw(figures: Figures, target: Path) -> None:
    """Write the picture (SVG or PNG by its name)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [(t, axes, [(s, series(figures, s[1])) for s in lines]) for t, axes, lines in PANELS]
    panels = [panel for panel in panels if any(xs for _, (xs, _) in panel[2])]
    columns = 2 if len(panels) > 1 else 1
    figure, grid = pyplot.subplots(
        -(-len(panels) // columns), columns, figsize=(6 * columns, 3.6 * -(-len(panels) // columns)), squeeze=False
    )
    for axis in grid.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, (x, y), lines) in zip(grid.flat, panels, strict=False):
        for (label, _, colour, line), (xs, ys) in lines:
            if xs:
                axis.plot([max(v, 1) for v in xs], ys, line, color=colour, label=label, markersize=4)
        if x != "threads":
            axis.set_xscale("log")
            axis.set_yscale("linear" if title == "memory" else "log")
        axis.set(title=title, xlabel=x, ylabel=y)
        if title == "memory":
            axis.set_ylim(bottom=0)
        axis.grid(True, alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(target)
    pyplot.close(figure)
