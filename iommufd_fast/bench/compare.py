# SPDX-License-Identifier: Apache-2.0
"""What changed between two results, and whether it is more than noise.

For each case and operation there are as many medians as the run had rounds. A change counts when two things hold: its
size reaches a threshold (rounds of one run share a process, a layout of memory and the machine's mood, so small steps
between runs mean little), and the rounds of the two runs are told apart by a rank test: Mann and Whitney's, two-sided,
at 1 in 400. It looks at order only, so one bad round cannot make or hide a change, and of 400 rows that did not change
one is expected to pass it, and then has the threshold before it. With fewer than six rounds a side it can never be so
sure, and the row says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

VERSION = "iommufd-fast-compare/1"
KEY = ("preset", "policy", "path", "live", "page", "memory", "length", "batch", "pattern", "op")
THRESHOLD = 0.10
CHANCE = 1 / 400  # that a row which did not change is told apart
_EXACT = 400  # products of round counts up to here are counted out; above, the normal approximation is good

# What must agree for figures to be comparable; the version of the package is what one wants to compare.
FACTS = (
    "cpu",
    "cpus",
    "architecture",
    "virtual_machine",
    "governor",
    "kernel",
    "thp",
    "thp_shmem",
    "compiler",
    "build",
    "python",
    "numpy",
)


@cache
def _ways(n: int, m: int) -> tuple[int, ...]:
    """How many of the orders of n + m values give each value of U, from 0 to n * m."""
    ways = [1] + [0] * (n * m)
    for i in range(1, n + 1):  # the Gaussian binomial coefficient, factor by factor
        for u in range(n * m, m + i - 1, -1):
            ways[u] -= ways[u - m - i]
        for u in range(i, n * m + 1):
            ways[u] += ways[u - i]
    return tuple(ways)


def rank_test(a: Sequence[float], b: Sequence[float]) -> float:
    """The probability that two samples of one distribution lie as far apart as `a` and `b`, by rank; two-sided.

    Values that are equal count half, rounded to the safe side.
    """
    n, m = len(a), len(b)
    if not n or not m:
        return 1.0
    below = sum((x < y) + 0.5 * (x == y) for x in a for y in b)
    u = math.ceil(min(below, n * m - below))
    if n * m > _EXACT:
        away = (n * m / 2 - u - 0.5) / math.sqrt(n * m * (n + m + 1) / 12)
        return min(math.erfc(max(away, 0.0) / math.sqrt(2)), 1.0)
    ways = _ways(n, m)
    return min(2 * sum(ways[: u + 1]) / sum(ways), 1.0)


def _best_possible(n: int, m: int) -> float:
    return 2 / math.comb(n + m, n)


def _row(key: tuple[Any, ...], a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    left, right = (float(np.median(r["round_medians"])) for r in (a, b))
    return {
        **dict(zip(KEY, key, strict=True)),
        "a": round(left, 2),
        "b": round(right, 2),
        "change": round(right / left - 1, 4) if left > 0 else None,
        "a_noise": a["noise"],
        "b_noise": b["noise"],
        "p": rank_test(a["round_medians"], b["round_medians"]),
        "rounds": [len(a["round_medians"]), len(b["round_medians"])],
    }


def _verdict(row: dict[str, Any], threshold: float) -> str:
    if _best_possible(*row["rounds"]) > CHANCE:
        return "too few rounds"
    if row["change"] is None:
        return "too short to measure"
    if row["p"] > CHANCE or abs(row["change"]) < threshold:
        return "same"
    return "slower" if row["change"] > 0 else "faster"


def _by_key(document: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(result[name] for name in KEY): result for result in document["results"]}


def differences(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    """What else differs between two runs, as sentences."""
    for name in FACTS:
        left, right = a["machine"].get(name), b["machine"].get(name)
        if left != right:
            yield f"{name} differs: {left} and {right}"
    for name in a["clocks"]:
        left, right = a["clocks"][name]["name"], b["clocks"][name]["name"]
        if left != right:
            yield f"the {name} clock differs: {left} and {right}"
    for letter, document in (("A", a), ("B", b)):
        load = document["machine"]["load_1min"]
        if load > 1:
            yield f"the machine of {letter} was busy (load {load:.2f}) when its run began"
        if document["machine"]["build"] == "test":
            yield f"{letter} is of the test configuration, whose figures mean nothing"


def compare(a: dict[str, Any], b: dict[str, Any], threshold: float = THRESHOLD) -> dict[str, Any]:
    """Compare two documents of ``iommufd-fast bench``.

    Parameters
    ----------
    a, b : dict
        Before and after; as :func:`iommufd_fast.bench.schema.load` returns them.
    threshold : float
        The smallest change that counts, as a share: 0.10 is 10 %.

    Returns
    -------
    dict
        ``rows``: per case and operation the case's axes, ``a`` and ``b`` (medians of the rounds, ns), ``change``
        ((b - a) / a), ``p`` of the rank test and ``verdict``: slower, faster, same, too few rounds, too short to
        measure. ``only_a``, ``only_b``: how many rows have no partner. ``differences``: what else differs.
    """
    left, right = _by_key(a), _by_key(b)
    rows = [_row(key, left[key], right[key]) for key in left if key in right]
    for row in rows:
        row["verdict"] = _verdict(row, threshold)
    return {
        "schema": VERSION,
        "threshold": threshold,
        "differences": list(differences(a, b)),
        "only_a": len(left.keys() - right.keys()),
        "only_b": len(right.keys() - left.keys()),
        "rows": rows,
    }
