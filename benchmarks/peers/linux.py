# SPDX-License-Identifier: Apache-2.0
"""The kernel peer: Linux's own code as an ordinary program, timed inside it (see the README of the folder given)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

PARTS = ("pt", "iova", "iommufd")
# Figures that the iova part prints as prose: what to look for, and what each group is.
IOVA = {
    r"fast sz=1 alloc avg (\d+) min \d+ free avg (\d+)": ("fast 1 alloc", "fast 1 free"),
    r"rbtree 512 live alloc avg (\d+) min \d+ free avg (\d+)": ("rbtree 512 alloc", "rbtree 512 free"),
    r"rbtree 1M live random free\+alloc: (\d+) ns": ("rbtree 1M churn",),
    r"itree seq insert 1M: (\d+) ns": ("itree insert",),
    r"itree random lookup in 1M: (\d+) ns": ("itree lookup",),
}


def run(folder: Path, part: str) -> Iterator[tuple[str, float]]:
    """(case, ns) of one part of the peer, run once."""
    program = folder / "linux-peer"
    done = subprocess.run([str(program), part], capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{program} {part} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield from _row(json.loads(line))


def _row(row: dict) -> Iterator[tuple[str, float]]:
    if "format" in row:
        for op in ("map", "unmap", "walk"):
            if f"{op}_ns" in row:
                yield f"pt:{row['format']}/{row['config']}/{row['case']}/{op}", row[f"{op}_ns"]
    elif "figure" in row:
        for pattern, names in IOVA.items():
            found = re.match(pattern, row["figure"])
            for name, value in zip(names, found.groups() if found else (), strict=False):
                yield f"iova:{name}", float(value)
    elif "ns" in row:
        yield f"iommufd:{row['case']}/{row['op']}", float(row["ns"])
