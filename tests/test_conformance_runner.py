# SPDX-License-Identifier: Apache-2.0
"""The conformance runner's own parts: reading TAP, borrowing huge pages, saying what is missing."""

from __future__ import annotations

import importlib.util
import re

import pytest
from support import ROOT, run

SPEC = importlib.util.spec_from_file_location("conformance_runner", ROOT / "tests" / "conformance" / "__main__.py")
runner = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(runner)

TAP = """TAP version 13
1..3
#  RUN           a.one ...
#            OK  a.one
ok 1 a.one
#  RUN           a.two ...
# x.c:9:two:Expected 0 (0) == 1 (1)
#          FAIL  a.two
not ok 2 a.two
#      SKIP      no device
ok 3 a.three # SKIP no device
"""


def test_tap_is_read():
    found = runner.results(TAP)
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "a.one": "passed",
        "a.two": "failed",
        "a.three": "skipped",
    }
    assert any("Expected" in line for line in found["a.two"][1])
    assert runner.summary(found) == "1 passed, 1 failed, 1 skipped"
    assert runner.planned(TAP) == 3 and runner.planned("") == 0


@pytest.mark.parametrize(
    ("free", "total", "then", "complaint"),
    [("0", "5", "85", "only 0 of 80"), ("80", "90", "90", ""), ("20", "20", "80", "only 20 of 80")],
)
def test_huge_pages_are_given_back(tmp_path, monkeypatch, free, total, then, complaint):
    (tmp_path / "nr_hugepages").write_text(total)
    (tmp_path / "free_hugepages").write_text(free)
    monkeypatch.setattr(runner, "NR_HUGE", tmp_path)
    with pytest.raises(KeyError), runner.huge_pages(80) as said:
        assert (tmp_path / "nr_hugepages").read_text() == then
        assert said.startswith(complaint) and bool(said) == bool(complaint)
        raise KeyError  # given back whatever happens
    assert (tmp_path / "nr_hugepages").read_text() == total


def test_no_huge_pages_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "NR_HUGE", tmp_path)
    with runner.huge_pages(80) as said:
        assert "no huge pages" in said


def test_a_tree_without_the_tests_is_said(tmp_path):
    with pytest.raises(runner.Missing, match=re.escape("iommufd.c")):
        runner.build(tmp_path, tmp_path / "out")


def test_make_says_what_it_wants():
    done = run("make", "-C", ROOT, "conformance", "LINUX=/nowhere")
    assert done.returncode and "LINUX=DIR" in done.stdout
