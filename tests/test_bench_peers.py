# SPDX-License-Identifier: Apache-2.0
"""The comparison with the peers: how the kernel provider's rows come from a guest's document, and are judged."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parent.parent / "benchmarks" / "peers"


@pytest.fixture(scope="module", autouse=True)
def modules():
    """The folder is a program: its modules import each other by name."""
    before = set(sys.modules)
    sys.path.insert(0, str(PEERS))
    yield
    sys.path.remove(str(PEERS))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(PEERS)):
            del sys.modules[name]


def result(path, iova, live, op, *medians):
    return {"path": path, "iova": iova, "live": live, "op": op, "round_medians": list(medians), "quantiles": []}


@pytest.fixture
def document():
    rows = []
    for path, iova, idle, loaded in (("c", "own", 10, 11), ("c", "kernel", 12, 600), ("python", "own", 20, 25)):
        for live, base in ((0, idle), (20_000, loaded)):
            rows += [result(path, iova, live, op, base * 2, base, base * 3) for op in ("map", "unmap")]
            rows.append(result(path, iova, live, "translate", 1))
    return {"results": rows}


def rows_of(found):
    import figures
    import table

    made = figures.Figures()
    made.update(found)
    return {row.goal.title: row for row in table.rows_of(made) if row.goal.title.startswith("kernel provider")}


def test_the_proportion_is_that_of_the_best_rounds_of_map_and_unmap(document):
    import kernel

    found = dict(kernel.figures(document))
    assert found["kernel:c/own/0"] == 20 and found["kernel:c/own/20000"] == 22
    assert found["kernel:c/own/flat"] == pytest.approx(1.1)
    assert found["kernel:c/kernel/flat"] == pytest.approx(50)
    assert found["kernel:python/own/flat"] == pytest.approx(1.25)


def test_the_kernels_rows_are_judged_by_their_goal(document):
    import kernel

    c, python = rows_of(kernel.figures(document)).values()
    assert c.met is True and c.peer == pytest.approx(50) and c.ratio == pytest.approx(50 / 1.1)
    assert python.met is False and python.peer is None


def test_without_a_kernel_its_rows_are_not_met():
    import table

    rows = list(rows_of([("iova:recycle/take", 4.0)]).values())
    assert [row.met for row in rows] == [None, None]
    assert table.summary(rows) == "2 goals, 0 met, 2 missed"
    assert "make peers KERNEL=PATH" in table.NOTES[rows[0].goal.note]


def test_figures_keep_the_best_run():
    import figures

    made = figures.Figures()
    made.update([("a", 3.0), ("a", 2.0), ("b/scaling", 1.0), ("b/scaling", 1.5)])
    assert made.best == {"a": 2.0, "b/scaling": 1.5}
    assert made.spread("a") == pytest.approx(0.5) and math.isclose(made.spread("none"), 0.0)
