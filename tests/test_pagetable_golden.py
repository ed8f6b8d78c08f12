# SPDX-License-Identifier: Apache-2.0
"""A few golden page tables, and that the comparison would notice a difference."""

from __future__ import annotations

import copy
from pathlib import Path

import golden_check
import pytest

HERE = Path(__file__).parent / "golden"


def test_golden_tables(capsys):
    assert golden_check.main(str(HERE)) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "2443 walks, 0 mismatches, 1755 tables, 0 differing"


def test_all_golden_tables(shared_dir, capsys):
    if not (shared_dir / "golden").is_dir():
        pytest.skip("no golden tables there")
    assert golden_check.main(str(shared_dir / "golden")) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "8303 walks, 0 mismatches, 7131 tables, 0 differing"
    assert out.count(": the same") == 48 and "skipped" not in out


def test_nothing_to_compare(tmp_path):
    assert golden_check.main(str(tmp_path)) == 2


@pytest.fixture(scope="module")
def one():
    name, case = next(iter(golden_check.load(HERE)))
    return name, case


@pytest.mark.parametrize("what", ["walk", "errno", "length", "item", "table"])
def test_a_difference_is_seen(one, what, capsys):
    case = copy.deepcopy(one[1])
    if what == "walk":
        case["walks"][3][1] = "0x1234"
    elif what == "errno":
        next(op for op in case["ops"] if op[0] == "map" and op[5])[5] = -17
    elif what == "length":
        next(op for op in case["ops"] if op[0] == "unmap" and op[3] != "0x0")[3] = "0x1"
    elif what == "item":
        lowest = next(t for t in case["tables"] if t["level"] == 0 and t["runs"])
        lowest["runs"][0][2] = hex(int(lowest["runs"][0][2], 0) ^ 1 << 60)
    else:
        case["tables"].append({"addr": "0x7777000", "level": 0, "n": 512, "runs": []})
    tally = golden_check.check([("changed", case)])
    assert (tally.mismatches > 0) == (what in ("walk", "errno", "length")), tally
    assert (tally.differing > 0) == (what in ("item", "table")), tally
    assert "DIFFERENT" in capsys.readouterr().out
