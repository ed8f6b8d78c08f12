# SPDX-License-Identifier: Apache-2.0
"""What others cost, for the growth curves: figures of a run of `make peers`, stored with its date and machine.

A stored run is the JSON that `make peers` leaves, or the part of one that comes with the package (``data/peers.json``).
Nothing of it was measured in the run that a report is about, and the report says so.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "iommufd-fast-peers/1"
SHIPPED = Path(__file__).resolve().parent.parent / "data" / "peers.json"


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve of somebody else's.

    Attributes
    ----------
    panel : str
        The plot it belongs into: "live", "length" or "ranges".
    op : str
        "map", "unmap" or "find".
    name : str
    pattern : str
        Of the cases; the first group is x.
    """

    panel: str
    op: str
    name: str
    pattern: str


CURVES = (
    Curve("live", "map", "Linux 7.2", r"iommufd:domains=1 live=(\d+) length=4096/map"),
    Curve("live", "unmap", "Linux 7.2", r"iommufd:domains=1 live=(\d+) length=4096/unmap"),
    Curve("length", "map", "Linux 7.2", r"iommufd:domains=1 live=0 length=(\d+)/map"),
    Curve("length", "unmap", "Linux 7.2", r"iommufd:domains=1 live=0 length=(\d+)/unmap"),
    Curve("ranges", "find", "GLib's GTree (C)", r"gtree:find/(\d+)"),
    Curve("ranges", "find", "sortedcontainers", r"sortedcontainers:find/(\d+)"),
    Curve("ranges", "find", "intervaltree", r"intervaltree:find/(\d+)"),
)
NOTES = (
    "Linux 7.2 is its own iommufd as an ordinary program, timed inside it: a uniprocessor build that pins the memory, "
    "in 4K pages, and finds its IOVAs by a walk. GTree, sortedcontainers and intervaltree hold the same ranges."
)


class PeersError(ValueError):
    """A file that is no run of `make peers`."""


def load(path: str | Path = SHIPPED) -> dict[str, Any]:
    """A stored run.

    Raises
    ------
    PeersError
    OSError
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as e:
        raise PeersError(f"{path} is not JSON: {e}") from None
    if not isinstance(document, dict) or document.get("schema") != VERSION:
        raise PeersError(f"{path} is no result of make peers ({VERSION})")
    missing = [key for key in ("made", "machine", "figures") if key not in document]
    if missing:
        raise PeersError(f"{path}: {missing[0]!r} is missing")
    return document


def points(document: dict[str, Any], curve: Curve) -> tuple[list[int], list[float]]:
    """x and y of a curve, by x; the best of the runs counts, as in the comparison. Empty when it was not measured."""
    found = []
    for case, values in document["figures"].items():
        match = re.fullmatch(curve.pattern, case)
        if match:
            found.append((int(match[1]), min(values)))
    return [x for x, _ in sorted(found)], [y for _, y in sorted(found)]


def where(document: dict[str, Any]) -> str:
    """When and where it was measured."""
    m = document["machine"]
    return f"{document['made'][:10]} on {m['cpu']}, {m['cpus']} CPUs, Linux {m['kernel']}, {m['compiler']}"


def reduced(document: dict[str, Any]) -> dict[str, Any]:
    """What the package ships of a run: its date, its machine, and the curves above."""
    used = [curve.pattern for curve in CURVES]
    figures = {c: v for c, v in document["figures"].items() if any(re.fullmatch(pattern, c) for pattern in used)}
    return {key: document[key] for key in ("schema", "made", "machine", "runs")} | {"figures": figures}
