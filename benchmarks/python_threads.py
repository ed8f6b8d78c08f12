# SPDX-License-Identifier: Apache-2.0
"""Two Python threads, each with an address space of its own, against one: what a Python without a GIL is good for.

    python benchmarks/python_threads.py

Each thread maps and unmaps single pages, one call each. Prints JSON lines: nanoseconds of a map and its unmap with one
thread, and how many times as much two threads do in the same time (2 is the most), with address spaces of one context
and of two. The best of some rounds counts.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np

import iommufd_fast as iof

PAGE, PAGES, PASSES, ROUNDS = 4096, 64, 400, 25


def pages() -> list[np.ndarray]:
    memory = np.ones((PAGES + 1) * PAGE, np.uint8)
    skip = -int(memory.ctypes.data) % PAGE
    return [memory[skip + i * PAGE : skip + (i + 1) * PAGE] for i in range(PAGES)]


def work(ioas: iof.Ioas, views: list[np.ndarray], start: threading.Barrier, took: list[tuple[float, float]]) -> None:
    def once() -> None:
        for _ in range(PASSES):
            for mapping in [ioas.map(view) for view in views]:
                mapping.close()

    once()
    start.wait()
    begin = time.perf_counter()
    once()
    took.append((begin, time.perf_counter()))
    if ioas.stats().mappings or ioas.live_handles:
        raise AssertionError("something is left")


def seconds(spaces: list[iof.Ioas]) -> float:
    """From the first thread's begin to the last one's end; one thread for each address space."""
    start, took = threading.Barrier(len(spaces)), list[tuple[float, float]]()
    views = [pages() for _ in spaces]
    threads = [threading.Thread(target=work, args=(s, v, start, took)) for s, v in zip(spaces, views, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(took) != len(spaces):
        raise AssertionError("a thread failed")
    return max(end for _, end in took) - min(begin for begin, _ in took)


def space(ctx: iof.Iommufd, device: int) -> iof.Ioas:
    made = ctx.ioas()
    ctx.bind(device).attach(made)
    return made


def main() -> None:
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    with iof.Machine("intel", groups=(1, 1)) as machine:
        with machine.open() as ctx:
            first, second = space(ctx, 0), space(ctx, 1)
            one = min(seconds([first]) for _ in range(ROUNDS))
            report("map_unmap", gil, ns=one / PASSES / PAGES * 1e9)
            both = min(seconds([first, second]) for _ in range(ROUNDS))
            report("one context", gil, scaling=2 * one / both)
        with machine.open() as a, machine.open() as b:
            spaces = [space(a, 0), space(b, 1)]
            both = min(seconds(spaces) for _ in range(ROUNDS))
            report("two contexts", gil, scaling=2 * one / both)


def report(case: str, gil: bool, **figures: float) -> None:
    row = {"bench": "python_threads", "case": case, "gil": gil}
    print(json.dumps(row | {name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
