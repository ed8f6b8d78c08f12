# SPDX-License-Identifier: Apache-2.0
"""What Python costs: maps of an ndarray over the same maps in a C loop, batches, starting up. Prints JSON lines."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np

import iommufd_fast as iof
from iommufd_fast._core import benchloop, benchrig

PAGE, N, ROUNDS = 4096, 64, 401  # N: the calls between two clock readings, in Python and in C


def report(case: str, value: float) -> None:
    print(json.dumps({"bench": "python", "case": case, "ns_median": round(value, 2)}))


def pages(memory: np.ndarray) -> list[np.ndarray]:
    skip = -int(memory.ctypes.data) % PAGE
    return [memory[skip + i * PAGE : skip + (i + 1) * PAGE] for i in range(N)]


def median(run, undo) -> float:
    """Nanoseconds of one run, the median of the rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        state = run()
        times.append(time.perf_counter_ns() - start)
        undo(state)
    return sorted(times)[ROUNDS // 2]


def c_figures(addresses: np.ndarray) -> tuple[float, float]:
    """(one map, one entry of a batch) in a C loop on an engine like the one that Python uses."""
    rig = benchrig.Rig("intel", "trust", True, False)
    fresh = np.zeros(N, np.uint64)
    maps = [benchloop.burst(rig, addresses, PAGE, N, fresh, fresh)[0][0] for _ in range(ROUNDS)]
    lengths = np.full(N, PAGE, np.uint64)
    batches = [benchloop.batch(rig, addresses, lengths, N)[0][0] for _ in range(ROUNDS)]
    return float(np.median(maps)) / N, float(np.median(batches)) / N


def mapping(memory: np.ndarray) -> None:
    views = pages(memory)
    addresses = np.array([v.ctypes.data for v in views], np.uint64)
    lengths = np.full(N, PAGE, np.uint64)
    with iof.Machine("intel", groups=(1,)).open() as ctx:
        ioas = ctx.ioas()
        ctx.bind(0).attach(ioas)
        single = median(lambda: [ioas.map(v) for v in views], lambda made: [m.close() for m in made]) / N
        batch = median(lambda: ioas.map_many(addresses, lengths, trusted=True), lambda at: ioas.unmap_many(at, lengths))
    c_single, c_batch = c_figures(addresses)
    report("map", single)
    report("map_over_c", single - c_single)
    report("map_many_over_c", batch / N - c_batch)


def stubbed(memory: np.ndarray) -> None:
    """A whole map of the kernel provider, IOVA allocation and all, over an ioctl that does nothing successfully."""
    views = pages(memory)
    with iof.Iommufd._open_kernel("stub", "own", "a stub stands in the kernel's place", null=True) as ctx:
        ioas = ctx.ioas()
        made = [ioas.map(v) for v in views]
        assert len({m.iova for m in made}) == N and all(
            m.address == v.ctypes.data for m, v in zip(made, views, strict=True)
        )
        for m in made:
            m.close()
        single = median(lambda: [ioas.map(v) for v in views], lambda made: [m.close() for m in made]) / N
    report("map_stubbed", single)


def best_ms(code: str) -> float:
    """Milliseconds that a fresh interpreter says `code` takes; the best of seven."""
    text = f"import time, numpy; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", text], capture_output=True, check=True).stdout) for _ in range(7)
    ]
    return min(runs) * 1e3


def opening() -> float:
    """Nanoseconds of opening a context of the engine on a machine that is there."""
    machine = iof.Machine("intel", groups=(1,))
    return median(machine.open, lambda ctx: ctx.close())


def fcntl_loop() -> None:
    """The usual way from Python to a file's commands: a packed struct and fcntl.ioctl, of a cheap command."""
    import fcntl
    import os
    import struct
    import termios

    read, write = os.pipe()
    run = lambda: [fcntl.ioctl(read, termios.FIONREAD, struct.pack("=i", 0)) for _ in range(N)]  # noqa: E731
    report("fcntl_ioctl", median(run, lambda _: None) / N)
    os.close(read)
    os.close(write)


if __name__ == "__main__":
    mapping(np.ones((N + 1) * PAGE, np.uint8))
    stubbed(np.ones((N + 1) * PAGE, np.uint8))
    report("import", best_ms("import iommufd_fast"))
    report("open", opening())
    fcntl_loop()
