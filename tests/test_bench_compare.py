# SPDX-License-Identifier: Apache-2.0
"""Comparing two results: the rank test against counting, and what counts as a change."""

from __future__ import annotations

import copy
import json
import random
from itertools import combinations
from math import comb

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from iommufd_fast.bench import compare as module
from iommufd_fast.bench import schema
from iommufd_fast.bench.compare import CHANCE, FACTS, compare, rank_test
from iommufd_fast.bench.matrix import Case, Plan
from iommufd_fast.bench.run import run
from iommufd_fast.cli.root import cli


def counted(a: list[int], b: list[int]) -> float:
    """The two-sided probability, by looking at every way to choose who is in the first sample (no equal values)."""
    values = sorted(a + b)

    def below(first) -> int:
        return sum(x < y for x in first for y in values if y not in first)

    centre = len(a) * len(b) / 2
    seen = abs(below(a) - centre)
    return sum(abs(below(c) - centre) >= seen for c in combinations(values, len(a))) / comb(len(values), len(a))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=9, unique=True), st.data())
def test_the_rank_test_is_exact(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    assert rank_test(values[:cut], values[cut:]) == pytest.approx(counted(values[:cut], values[cut:]))


def test_the_rank_test_by_hand():
    low, high = [1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14]
    assert rank_test(low, high) == rank_test(high, low) == pytest.approx(2 / 3432)
    assert rank_test(low, low) == 1.0
    assert rank_test([], low) == 1.0


def test_the_approximation_meets_the_exact_value(monkeypatch):
    rng = random.Random(1)
    for shift in (0.0, 0.3, 0.6, 1.0):
        a, b = [rng.gauss(0, 1) for _ in range(20)], [rng.gauss(shift, 1) for _ in range(20)]
        exact = rank_test(a, b)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_EXACT", 0)
            assert rank_test(a, b) == pytest.approx(exact, abs=0.01)


def test_false_alarms_stay_rare():
    rng = random.Random(2)
    rows = [rank_test([rng.random() for _ in range(7)], [rng.random() for _ in range(7)]) for _ in range(2000)]
    assert 20 < sum(p <= 0.05 for p in rows) < 140 and sum(p <= CHANCE for p in rows) <= 12  # expected: 5


@pytest.fixture(scope="module")
def document():
    plan = Plan(live=(0, 20), lengths=(4096,), batches=(1, 8), memory=("anonymous",), rounds=7, seconds=0.001)
    return json.loads(json.dumps(run(plan)))


def changed(document, factor, chosen=lambda row: True, spread=0.0):
    """The document with the times of some rows multiplied; `spread` makes the rounds of both overlap."""
    made = copy.deepcopy(document)
    for row in filter(chosen, made["results"]):
        row["round_medians"] = [m * factor * (1 + spread * (i % 2)) for i, m in enumerate(row["round_medians"])]
    return made


@pytest.fixture
def steady(document):
    made = copy.deepcopy(document)
    for row in made["results"]:
        row["round_medians"] = [100.0 + 0.1 * i for i in range(7)]
    made["machine"]["load_1min"], made["machine"]["build"] = 0.0, "release"
    return made


def verdicts(found) -> set[str]:
    return {row["verdict"] for row in found["rows"]}


def test_a_result_equals_itself(document):
    found = compare(document, document)
    assert verdicts(found) == {"same"} and len(found["rows"]) == len(document["results"])
    assert not found["only_a"] and not found["only_b"]


@pytest.mark.parametrize(("factor", "verdict"), [(1.5, "slower"), (0.5, "faster"), (1.09, "same"), (0.91, "same")])
def test_what_changed_is_found(steady, factor, verdict):
    def maps(row):
        return row["op"] == "map"

    found = compare(steady, changed(steady, factor, maps))
    for row in found["rows"]:
        assert row["verdict"] == (verdict if maps(row) else "same"), row
        assert row["change"] == pytest.approx((factor if maps(row) else 1) - 1, abs=1e-4)
    assert not found["differences"]


def test_a_change_within_the_rounds_spread_is_noise(steady):
    left = changed(steady, 1.0, spread=1.0)
    found = compare(left, changed(left, 1.18))
    assert verdicts(found) == {"same"} and all(row["change"] > 0.10 for row in found["rows"])


def test_few_rounds_are_said(steady):
    few = copy.deepcopy(steady)
    for row in few["results"]:
        row["round_medians"] = row["round_medians"][:5]
    assert verdicts(compare(few, changed(few, 3))) == {"too few rounds"}


def test_rows_without_a_partner_are_counted(steady):
    less = copy.deepcopy(steady)
    less["results"] = less["results"][:-2]
    assert (compare(steady, less)["only_a"], compare(steady, less)["only_b"]) == (2, 0)


@pytest.mark.parametrize("fact", FACTS)
def test_another_machine_is_said(steady, fact):
    other = copy.deepcopy(steady)
    other["machine"][fact] = "other"
    assert any(fact in line for line in compare(steady, other)["differences"])


def test_the_command(steady, tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps(schema.check(steady)))
    b.write_text(json.dumps(changed(steady, 2, lambda row: row["op"] == "unmap")))

    def call(*words):
        return CliRunner().invoke(cli, ["bench", "compare", str(a), str(b), *words])

    done, units = call(), sum(row["op"] == "unmap" for row in steady["results"])
    assert done.exit_code == 0 and f"{units} slower" in done.output and "+100.0 %" in done.output
    assert str(Case()) in done.output and " map " not in done.output
    assert " map " in call("--all").output
    assert call("--fail").exit_code == 3 and call("--fail", "--threshold", "150").exit_code == 0
    assert json.loads(call("--json").output)["rows"][0]["p"] == 1.0
    b.write_text("{}")
    assert call().exit_code == 1 and "missing" in call().output
