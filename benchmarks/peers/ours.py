# SPDX-License-Identifier: Apache-2.0
"""Our side: the C benchmarks, and the few figures that need Python (`python.py`, in a process of its own)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from figures import of_lines

HERE = Path(__file__).resolve().parent
# What stands beside which part of the kernel peer, so that both see the same weather.
BESIDE = {
    "pt": [("bench_pagetable", "51"), ("bench_nested", "31")],
    "iova": [("bench_iova", "31"), ("bench_va", "31")],
    "iommufd": [("bench_ioas", "31"), ("bench_hold", "31"), ("bench_memory", "31"), ("bench_threads", "301")],
}
ONCE = [("bench_parallel", "31"), ("bench_growth", "15")]


def program(binaries: Path, name: str, rounds: str) -> Iterator[tuple[str, float]]:
    done = subprocess.run([str(binaries / name), "", rounds], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    yield from of_lines(done.stdout)


def python() -> Iterator[tuple[str, float]]:
    done = subprocess.run([sys.executable, str(HERE / "python.py")], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"python.py failed:\n{done.stderr}")
    yield from of_lines(done.stdout)
