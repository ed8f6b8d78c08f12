# SPDX-License-Identifier: Apache-2.0
"""The kernel provider on a kernel in QEMU: map + unmap with 20 000 live mappings against none.

The IOVA is chosen by this library (ours, from C and from Python) or by the kernel (the peer, from C). The machine is
emulated, so only the proportion means something: both of its sides pay the same emulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iommufd_fast.bench.guest import run_in

LIVE = 20_000
SETTINGS: dict[str, Any] = {
    "device": "edu",  # behind the guest's VT-d
    "live": (0, LIVE),
    "lengths": (4096,),
    "batches": (1,),
    "memory": ("anonymous",),
    "patterns": ("pair",),
    "pages": ("auto",),
    "rounds": 9,
    "seconds": 0.25,
}


def measure(kernel: Path) -> dict[str, Any]:
    """The document of the benchmark in the guest, without the distributions, which nobody reads here."""
    document = run_in(kernel, SETTINGS)
    for result in document["results"]:
        del result["quantiles"]
    return document


def figures(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """(case, ns of map + unmap in the best round), and per way in and chooser the case ``…/flat``: loaded over idle."""
    pairs: dict[tuple[str, str, int], float] = {}
    for result in document["results"]:
        if result["op"] in ("map", "unmap"):
            key = result["path"], result["iova"], result["live"]
            pairs[key] = pairs.get(key, 0.0) + min(result["round_medians"])
    for (path, iova, live), ns in pairs.items():
        yield f"kernel:{path}/{iova}/{live}", ns
        if live == LIVE:
            yield f"kernel:{path}/{iova}/flat", ns / pairs[path, iova, 0]
