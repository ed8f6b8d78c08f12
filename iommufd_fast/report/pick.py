# SPDX-License-Identifier: Apache-2.0
"""Which results belong to which question: one axis varies, the others stay at the base case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Result = dict[str, Any]
AXES = ("preset", "policy", "memory", "page", "length", "live", "batch", "pattern", "iova")
_FIRST = {
    "preset": "intel",
    "policy": "trust",
    "memory": "anonymous",
    "page": "auto",
    "pattern": "pair",
    "iova": "own",
}
OPS = ("map", "translate", "unmap")
PATHS = ("c", "python")


def base(results: Iterable[Result]) -> dict[str, Any]:
    """The base case of a document: the usual value of each axis if it was measured, else the smallest there is."""
    results = list(results)
    found = {axis: {r[axis] for r in results} for axis in AXES}
    return {
        axis: _FIRST[axis] if _FIRST.get(axis) in values else min(values, default=None)
        for axis, values in found.items()
    }


def along(results: Iterable[Result], axis: str, path: str, op: str, **other: Any) -> list[Result]:
    """Results that differ from the base case in one axis only (and in `other`), ordered along it."""
    results = list(results)
    want = base(results) | other
    fixed = {k: v for k, v in want.items() if k != axis}
    hits = [r for r in results if r["path"] == path and r["op"] == op and all(r[k] == v for k, v in fixed.items())]
    return sorted(hits, key=lambda r: r[axis])


def one(results: Iterable[Result], path: str, op: str, **other: Any) -> Result | None:
    """The result of the base case, changed in `other`; None when it was not measured."""
    results = list(results)
    want = base(results) | other | {"path": path, "op": op}
    return next((r for r in results if all(r[k] == v for k, v in want.items())), None)


def values(results: Iterable[Result], axis: str) -> list[Any]:
    return sorted({r[axis] for r in results})
