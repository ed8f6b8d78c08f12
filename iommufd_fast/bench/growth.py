# SPDX-License-Identifier: Apache-2.0
"""How cost grows: against live mappings, against the ranges in an index, against threads; memory per live mapping.

The curves of the engine, on one preset under `trust`, whose memory is never touched. What a map costs against its
length is an axis of the plan already. Every curve is a list of points: {"curve", "x", "y", "unit"}.

The live mappings are measured in a process of their own (``python -m iommufd_fast.bench.growth MOST SEED``): in one
that has worked before, new mappings lie in memory that the process has already, and it does not grow by them.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iommufd_fast._core.benchloop import burst
from iommufd_fast._core.benchthreads import storm
from iommufd_fast._core.iova import IovaSpace

from .clock import Clock, c_clock
from .cpath import CPath
from .machine import meminfo
from .matrix import Case
from .memory import Region, region
from .paths import OPS, WrongAnswer

Point = dict[str, Any]

PAGE = 4096
FIRST = 100  # live mappings where the curves begin; then ten times as many, and so on
BURST, BURSTS = 64, 150
LOOKUPS = 20_000
MOST_RANGES = 1_000_000  # they are inserted one by one from Python
NEEDED = 160  # bytes that a live mapping may take before it is measured
CHUNK = 100_000
KEPT = 1000  # of each chunk: live mappings to translate
PAGES, STORMS, THREAD_ROUNDS = 256, 20, 15  # of a thread: pages, repetitions in a round, rounds
WINDOW = 2 << 20


def decades(first: int, most: int) -> list[int]:
    """first, ten times that, …, up to `most`."""
    made = []
    while first <= most:
        made.append(first)
        first *= 10
    return made


def room(most: int) -> tuple[int, str | None]:
    """How many live mappings this machine has memory for, and why not more."""
    free = meminfo("MemAvailable")
    if free is None or most * NEEDED < free:
        return most, None
    able = max(n for n in [0, *decades(FIRST, most)] if n * NEEDED < free)
    return able, f"growth: {most} live mappings may take {most * NEEDED >> 20} MiB, {free >> 20} MiB are free"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _point(curve: str, x: int, y: float, unit: str = "ns") -> Point:
    return {"curve": curve, "x": x, "y": round(y, 3), "unit": unit}


class _Live:
    """An IOAS that fills up: page after page of memory that is not there, each a mapping of its own."""

    def __init__(self, clock: Clock, most: int) -> None:
        self.path, self.n = CPath(Case(), clock), 0
        self.memory: Region = region("anonymous", (most + BURST * BURSTS) * PAGE, touch=False)
        self.lengths, self.addresses = np.full(CHUNK, PAGE, np.uint64), np.ones(CHUNK, np.uint64)
        self.kept: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]] = []
        self.before = _resident()

    def pages(self, first: int, n: int) -> NDArray[np.uint64]:
        """n pages from page number `first` on; good until the next call, for no memory is taken for them."""
        view = self.addresses[:n]
        view[0], view[1:] = self.memory.address + first * PAGE, PAGE
        return np.cumsum(view, out=view)

    def fill(self, n: int, rng: np.random.Generator) -> None:
        while self.n < n:
            addresses = self.pages(self.n, min(n - self.n, CHUNK))
            iovas = self.path.rig.fill(addresses, self.lengths[: len(addresses)])
            chosen = rng.choice(len(addresses), min(KEPT, len(addresses)), replace=False)
            self.kept.append((iovas[chosen], addresses[chosen]))
            self.n += len(addresses)

    def sample(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Some of the live mappings, of every part of the address space: IOVAs and addresses."""
        return np.concatenate([k[0] for k in self.kept]), np.concatenate([k[1] for k in self.kept])

    def bytes_each(self) -> float:
        return (_resident() - self.before - len(self.kept) * KEPT * 16) / self.n


def by_live(clock: Clock, most: int, rng: np.random.Generator) -> Iterator[Point]:
    """One 4 KiB call against live mappings, from C, and what a live mapping takes of the process's memory."""
    live = _Live(clock, most)
    try:
        for n in decades(FIRST, most):
            live.fill(n, rng)
            if n >= 10 * FIRST:  # fewer are lost in what an allocator takes at once
                yield _point("memory", n, live.bytes_each(), "B")
            iovas, addresses = live.sample()
            at = rng.integers(0, len(iovas), BURST * BURSTS)
            fresh = live.pages(n, BURST * BURSTS)
            for op, ticks in zip(OPS, burst(live.path.rig, fresh, PAGE, BURST, iovas[at], addresses[at]), strict=True):
                yield _point(f"live/{op}", n, float(np.median(clock.ns(ticks))) / BURST)
            if not np.array_equal(live.path.translate(iovas), addresses):
                raise WrongAnswer(f"a live mapping of {n} does not translate to its page any more")
    finally:
        live.path.close()


def alone(most: int, seed: int) -> list[Point]:
    """by_live() in a fresh process."""
    command = [sys.executable, "-m", "iommufd_fast.bench.growth", str(most), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        if last.startswith("WrongAnswer: "):
            raise WrongAnswer(last.partition(": ")[2])
        raise OSError(f"the growth curves ended with status {done.returncode}: {last}")
    return list(json.loads(done.stdout))


def by_ranges(most: int, tick: Callable[[str], None]) -> Iterator[Point]:
    """Look-up of the range that holds an address, among so many, inserted in random order; from Python."""
    for n in decades(10 * FIRST, min(most, MOST_RANGES)):
        tick(f"growth: {n} ranges")
        space, starts = IovaSpace(policy="first_fit"), [(1 << 32) + i * PAGE for i in range(n)]
        random.Random(1).shuffle(starts)
        for start in starts:
            space.insert(start, start + PAGE - 1)
        asked = [starts[i % n] + 5 for i in range(LOOKUPS)]
        begin = time.perf_counter_ns()
        for at in asked:
            found = space.find(at)
        yield _point("ranges/find", n, (time.perf_counter_ns() - begin) / LOOKUPS)
        begin = time.perf_counter_ns()
        many = space.find_many(np.array(asked, np.uint64))
        yield _point("ranges/find_many", n, (time.perf_counter_ns() - begin) / LOOKUPS)
        if found is None or not found[0] <= at <= found[1] or (many[0] + np.uint64(5) != asked).any():
            raise WrongAnswer(f"one of {n} ranges was not found")


def _together(clock: Clock, threads: int, shared: bool, fixed: bool, batch: int) -> float:
    """Nanoseconds in which each thread does one map and its unmap; the best round, from the first to begin to the last
    to end."""
    paths = [CPath(Case(), clock) for _ in range(1 if shared else threads)]
    rounds = []

    def share(i: int, start: int) -> tuple[int, int]:
        pages = (1 << 44) + np.arange(i * PAGES, (i + 1) * PAGES, dtype=np.uint64) * np.uint64(PAGE)
        waiting.wait()
        rig = paths[i % len(paths)].rig
        return storm(rig, pages, STORMS, start, base=(1 << 40) + i * WINDOW if fixed else 0, batch=batch)

    waiting = threading.Barrier(threads)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(THREAD_ROUNDS):
            start = time.monotonic_ns() + 1_000_000
            times = [job.result() for job in [pool.submit(share, i, start) for i in range(threads)]]
            rounds.append(max(t[1] for t in times) - min(t[0] for t in times))
    for path in paths:
        if sum(path.leaves().values()):
            raise WrongAnswer("something is still mapped after every thread unmapped all of its pages")
        path.close()
    return min(rounds) / (PAGES * STORMS)


KINDS = {  # one IOAS for all?, IOVAs given?, ranges of a call
    "own": (False, False, 0),
    "fixed": (True, True, 0),
    "many": (True, False, 64),
    "auto": (True, False, 0),
}


def counts(cpus: int) -> list[int]:
    """1, 2, 4, …, and as many threads as there are CPUs; at most 64."""
    most = min(cpus, 64)
    return sorted({1, most, *(1 << i for i in range(7) if 1 << i <= most)})


def by_threads(clock: Clock, tick: Callable[[str], None]) -> Iterator[Point]:
    """Map + unmap of 4 KiB by each of several threads at once, from C."""
    for threads in counts(len(os.sched_getaffinity(0))):
        tick(f"growth: {threads} threads")
        for name, (shared, fixed, batch) in KINDS.items():
            yield _point(f"threads/{name}", threads, _together(clock, threads, shared, fixed, batch))


def measure(clock: Clock, most: int, seed: int, tick: Callable[[str], None]) -> list[Point]:
    """All points up to `most` live mappings; none when that is 0.

    Raises
    ------
    WrongAnswer, OSError
    """
    if not most:
        return []
    tick(f"growth: up to {most} live")
    return [*alone(most, seed), *by_threads(clock, tick), *by_ranges(most, tick)]


def main(most: str, seed: str) -> int:
    """In the process of its own: the points as JSON."""
    try:
        print(json.dumps(list(by_live(c_clock(), int(most), np.random.default_rng(int(seed))))))
    except WrongAnswer as e:
        print(f"WrongAnswer: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
