# SPDX-License-Identifier: Apache-2.0
"""The peers that anybody can install: sortedcontainers and intervaltree from PyPI, GLib's GTree by `gtree.c`.

Each is used as its users use it for the same job: closed ranges by their start, looked up by an address inside.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from figures import of_lines

PAGE, BASE, LOOKUPS = 4096, 1 << 32, 20_000
HERE = Path(__file__).resolve().parent
SIZES = (1000, 20_000, 1_000_000)


class Missing(Exception):
    """A peer is not installed; the text says how to get it."""


def shuffled(live: int) -> list[int]:
    starts = [BASE + i * PAGE for i in range(live)]
    random.Random(1).shuffle(starts)
    return starts


def timed(name: str, ops: int, run) -> Iterator[tuple[str, float]]:
    start = time.perf_counter_ns()
    run()
    yield name, (time.perf_counter_ns() - start) / ops


def sortedcontainers(live: int) -> Iterator[tuple[str, float]]:
    """SortedDict from start to last; bisect for the range that an address may be in."""
    try:
        from sortedcontainers import SortedDict
    except ImportError:
        raise Missing("sortedcontainers (pip install sortedcontainers)") from None
    ranges, starts = SortedDict(), shuffled(live)

    def insert() -> None:
        for start in starts:
            ranges[start] = start + PAGE - 1

    def find() -> None:
        keys = ranges.keys()
        for at in asked:
            start = keys[ranges.bisect_right(at) - 1]
            assert start <= at <= ranges[start]

    asked = [at + 5 for at in starts[:LOOKUPS]]
    yield from timed(f"sortedcontainers:insert/{live}", live, insert)
    yield from timed(f"sortedcontainers:find/{live}", len(asked), find)


def intervaltree(live: int) -> Iterator[tuple[str, float]]:
    """IntervalTree of half-open intervals; a stab for the range that holds an address. At most 20 000: it is slow."""
    try:
        from intervaltree import IntervalTree
    except ImportError:
        raise Missing("intervaltree (pip install intervaltree)") from None
    if live > 20_000:
        return
    tree, starts = IntervalTree(), shuffled(live)

    def insert() -> None:
        for start in starts:
            tree.addi(start, start + PAGE, start)

    def find() -> None:
        for at in asked:
            assert len(tree[at]) == 1

    asked = [at + 5 for at in starts[:LOOKUPS]]
    yield from timed(f"intervaltree:insert/{live}", live, insert)
    yield from timed(f"intervaltree:find/{live}", len(asked), find)


def iova_space(live: int) -> Iterator[tuple[str, float]]:
    """Ours, by the same calls from Python: IovaSpace."""
    from iommufd_fast._core.iova import IovaSpace

    space, starts = IovaSpace(policy="first_fit"), shuffled(live)

    def insert() -> None:
        for start in starts:
            space.insert(start, start + PAGE - 1)

    def find() -> None:
        for at in asked:
            assert space.find(at) is not None

    asked = [at + 5 for at in starts[:LOOKUPS]]
    yield from timed(f"iova_space:insert/{live}", live, insert)
    yield from timed(f"iova_space:find/{live}", len(asked), find)


def gtree(build: Path) -> Iterator[tuple[str, float]]:
    """GLib's GTree, in C."""
    package = shutil.which("pkg-config") and subprocess.run(
        ["pkg-config", "--cflags", "--libs", "glib-2.0"], capture_output=True, text=True
    )
    if not package or package.returncode:
        raise Missing("GLib (Debian: apt install libglib2.0-dev pkg-config)")
    build.mkdir(parents=True, exist_ok=True)
    binary = build / "gtree"
    command = ["cc", "-O2", "-o", str(binary), str(HERE / "gtree.c"), *package.stdout.split()]
    subprocess.run(command, check=True)
    done = subprocess.run([str(binary), *map(str, SIZES)], capture_output=True, text=True, check=True)
    yield from of_lines(done.stdout)


def run(build: Path) -> Iterator[tuple[str, float]]:
    """Every peer that is there; what is missing comes as (sentence, nan)."""
    sources = [(f, size) for size in SIZES for f in (sortedcontainers, intervaltree, iova_space)]
    missing: dict[str, None] = {}
    for source, size in [*sources, (gtree, build)]:
        try:
            yield from source(size)
        except Missing as what:
            missing[str(what)] = None
    for what in missing:
        yield f"missing:{what}", float("nan")
