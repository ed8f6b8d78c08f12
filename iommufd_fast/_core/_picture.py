# SPDX-License-Identifier: Apache-2.0
"""What an address space holds, as runs of leaves, and a picture of it: what is mapped where, page size by colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from html import escape
from itertools import islice, pairwise
from typing import NamedTuple, Protocol


class LeafLike(Protocol):
    """What is needed of a leaf."""

    @property
    def iova(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def prot(self) -> str: ...


class Run(NamedTuple):
    """Leaves of one size and permission side by side, whose addresses follow each other too."""

    iova: int
    address: int
    bytes: int
    size: int
    prot: str

    @property
    def end(self) -> int:
        return self.iova + self.bytes


def runs(leaves: Iterable[LeafLike]) -> Iterator[Run]:
    """Leaves in ascending order as runs."""
    run: Run | None = None
    for leaf in leaves:
        if run is not None and (run.end, run.address + run.bytes, run.size, run.prot) == (
            leaf.iova,
            leaf.address,
            leaf.size,
            leaf.prot,
        ):
            run = run._replace(bytes=run.bytes + leaf.size)
            continue
        if run is not None:
            yield run
        run = Run(leaf.iova, leaf.address, leaf.size, leaf.size, leaf.prot)
    if run is not None:
        yield run


def size_name(n: int) -> str:
    """4096 as "4 KiB": the largest unit that divides it, or one decimal."""
    for shift, unit in ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n >> shift:
            whole = n / (1 << shift)
            return f"{whole:.0f} {unit}" if n % (1 << shift) == 0 else f"{whole:.1f} {unit}"
    return f"{n} B"


WIDTH, LABEL, BAR, ROW, ROWS = 960, 180, 18, 26, 24
# By how many times four the size is above 4 KiB: light and warm for small pages, dark and cold for large ones.
COLOURS = ("#f2b134", "#ed8b3a", "#e0653f", "#c9475b", "#a43a7d", "#7a3b97", "#4f3f9f", "#2f4b94", "#1f5a83", "#17646b")


def colour(size: int) -> str:
    return COLOURS[min(max(size.bit_length() - 13, 0) // 2, len(COLOURS) - 1)]


def rows_of(found: Sequence[Run]) -> list[list[Run]]:
    """Runs with no gap between them belong together; the smallest gaps are closed until there are few enough rows."""
    gaps = [(after.iova - before.end, i) for i, (before, after) in enumerate(pairwise(found), 1)]
    cuts = sorted(i for gap, i in nlargest(ROWS - 1, gaps) if gap)
    return [list(found[a:b]) for a, b in pairwise([0, *cuts, len(found)]) if b > a]


def bar(row: Sequence[Run], y: int) -> Iterator[str]:
    """One row: linear in the IOVA; what is narrower than half a pixel is drawn half a pixel wide, once."""
    start, span, width, drawn = row[0].iova, row[-1].end - row[0].iova, WIDTH - LABEL - 90, -1.0
    yield f'<rect x="{LABEL}" y="{y}" width="{width}" height="{BAR}" fill="none" stroke="#bbb" stroke-width="0.5"/>'
    for run in row:
        x, right = (run.iova - start) / span * width, (run.end - start) / span * width
        if right - drawn < 0.5:
            continue
        w = max(right - max(x, drawn), 0.5)
        drawn = max(x, drawn) + w
        opacity = {"r": ' fill-opacity="0.55"', "w": ' fill-opacity="0.8"'}.get(run.prot, "")
        text = f"{run.iova:#x}-{run.end - 1:#x} to {run.address:#x}, {size_name(run.size)} pages, {run.prot or 'none'}"
        yield (
            f'<rect x="{LABEL + drawn - w:.2f}" y="{y}" width="{w:.2f}" height="{BAR}" fill="{colour(run.size)}"'
            f"{opacity}><title>{escape(text)}</title></rect>"
        )
    yield f'<text x="{LABEL - 6}" y="{y + 13}" text-anchor="end">{start:#x}</text>'
    yield f'<text x="{LABEL + width + 6}" y="{y + 13}">{size_name(span)}</text>'


def svg(leaves: Iterable[LeafLike], title: str, most: int = 200_000) -> str:
    """An SVG document: one row per part of the address space that has something mapped.

    Parameters
    ----------
    leaves : iterable of Leaf
        In ascending order.
    most : int
        So many leaves are looked at; the picture says when there are more.
    """
    several = iter(leaves)
    found = list(runs(islice(several, most)))
    rows, sizes = rows_of(found), {run.size: 0 for run in sorted(found, key=lambda run: run.size)}
    for run in found:
        sizes[run.size] += run.bytes
    more = f" (the first {most} leaves)" if next(several, None) is not None else ""
    height = 66 + ROW * max(len(rows), 1)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="18" font-size="13">{escape(title + more)}</text>',
    ]
    for i, (size, total) in enumerate(sizes.items()):
        x, y = 10 + i % 7 * 135, 26
        if i < 7:
            out.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour(size)}"/>')
            out.append(f'<text x="{x + 16}" y="{y + 10}">{size_name(size)}: {size_name(total)}</text>')
    for i, row in enumerate(rows):
        out += bar(row, 50 + i * ROW)
    if not rows:
        out.append('<text x="10" y="64">nothing is mapped</text>')
    out.append(f'<text x="10" y="{height - 6}" fill="#777">paler: read-only</text>')
    return "\n".join([*out, "</svg>\n"])


class Pictured(Protocol):
    """Something with leaves."""

    def leaves(self) -> Iterator[LeafLike]: ...


def svg_of(table: Pictured) -> str:
    return svg(table.leaves(), repr(table)[1:-1])
