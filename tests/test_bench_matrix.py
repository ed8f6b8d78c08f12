# SPDX-License-Identifier: Apache-2.0
"""Which cases a plan has, and the words that users write for sizes and counts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_fast.bench import matrix, memory
from iommufd_fast.bench.matrix import Case, Plan, kernel_plan, quick_plan
from iommufd_fast.bench.work import Live, Work, slots_of


@given(st.integers(1, 2**50))
def test_a_size_is_read_back_as_written(size):
    assert matrix.parse_size(matrix.size_text(size)) == size


@given(st.integers(0, 10**9))
def test_a_count_is_read_back_as_written(n):
    assert matrix.parse_count(matrix.count_text(n)) == n


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), ("4K", 4096), ("4kib", 4096), (" 2M ", 2 << 20), ("1g", 1 << 30)]
)
def test_sizes(text, size):
    assert matrix.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4X", "-4K", "4.5K", "0x1000", "K", "4 K K", "\u0664K"])
def test_what_is_no_size_is_said(text):
    with pytest.raises(ValueError, match="is not a size; write 4096, 4K"):
        matrix.parse_size(text)


def test_the_star_sweeps_every_axis_from_one_base():
    plan = Plan()
    assert len(set(plan.cases)) == len(plan.cases)
    for path in plan.paths:
        cases = [c for c in plan.cases if c.path == path]
        assert {c.live for c in cases} == set(plan.live)
        assert {c.length for c in cases} == set(plan.lengths)
        assert {c.memory for c in cases} == set(plan.memory)
        assert {c.batch for c in cases} == set(plan.batches)
        assert {c.policy for c in cases} == set(plan.policies)
        assert {c.preset for c in cases} == set(plan.presets)
    base = Case()
    axes = [f for f in Case.__dataclass_fields__ if f not in ("path", "length")]
    away = Counter(sum(getattr(c, a) != getattr(base, a) for a in axes) for c in plan.cases)
    assert max(away) <= 2, "a star has at most two axes away from its base (batches are also swept at many live)"


def test_cross_is_the_product_without_what_makes_no_sense():
    plan = Plan(presets=("amd",), policies=("trust",), memory=("memfd",), pages=("auto",), lengths=(4096, 65536),
                batches=(1, 8), live=(0, 10), cross=True)  # fmt: skip
    pairs = [c for c in plan.cases if c.pattern == "pair"]
    churns = [c for c in plan.cases if c.pattern == "churn"]
    assert len(pairs) == 2 * 2 * 2 * 2
    assert {(c.live, c.length, c.batch) for c in churns} == {(10, 4096, 1)}


def test_quick_is_quick():
    plan = quick_plan()
    assert plan.quick and plan.live[-1] == 1_000_000 and set(plan.paths) == {"c", "python"}
    assert len(plan.cases) * plan.rounds * plan.seconds < 35


@pytest.mark.parametrize("quick", [False, True])
def test_the_plan_of_a_kernel(quick):
    plan = kernel_plan("0000:01:00.0", quick=quick)
    assert (plan.provider, plan.device, plan.quick) == ("kernel", "0000:01:00.0", quick)
    assert {(c.preset, c.policy) for c in plan.cases} == {("kernel", "pin")}
    chosen = [c for c in plan.cases if c.iova == "kernel"]
    assert {c.live for c in chosen} == set(plan.live) and {(c.path, c.batch, c.pattern) for c in chosen} == {
        ("c", 1, "pair")
    }
    assert {c.path for c in plan.cases} == {"c", "python"}


def test_the_mock_device_has_room_for_so_much():
    assert kernel_plan("mock", lengths=(4096, 16 << 20)).cases
    with pytest.raises(ValueError, match="lengths up to 16M"):
        kernel_plan("mock", lengths=(64 << 20,))
    assert kernel_plan("0000:01:00.0", lengths=(64 << 20,)).cases


def test_cases_of_one_place_lie_together():
    groups = matrix.by_place(Plan().cases)
    assert sum(map(len, groups)) == len(Plan().cases)
    assert len({g[0].place for g in groups}) == len(groups)


@pytest.mark.parametrize("kind", memory.KINDS)
def test_memory_of_each_kind(kind):
    reason = memory.why_not(kind, 4 << 20)
    if reason:
        with pytest.raises(memory.Unavailable, match=kind):
            memory.region(kind, 4 << 20)
        pytest.skip(reason)
    region = memory.region(kind, 4 << 20)
    assert len(region.bytes) == region.size == 4 << 20
    assert region.address % (2 << 20) == 0
    assert region.huge_bytes() in {"anonymous": (0,), "thp": range(1, 1 << 30)}.get(kind, range(1 << 30))


def test_a_kind_that_does_not_exist():
    with pytest.raises(ValueError, match="'swap': one of anonymous, thp, memfd, hugetlb"):
        memory.why_not("swap", 4096)


@pytest.mark.parametrize(
    "case", [Case(), Case(length=2 << 20), Case(batch=512), Case(length=64 << 20, batch=64)], ids=str
)
def test_slots_lie_side_by_side_and_go_round(case):
    work = Work(case)
    assert len(work.addresses) == slots_of(case) >= 1
    assert (work.addresses[1:] - work.addresses[:-1] == case.length).all()
    n = len(work.addresses) + 3
    assert work.cycle(n)[-1] == work.addresses[2 % len(work.addresses)]
    assert [v.ctypes.data for v in work.buffers(n)] == work.cycle(n).tolist()


def test_live_pages_are_their_own_under_trust_and_shared_under_probe():
    assert len(set(Live(Case(live=50_000)).addresses.tolist())) == 50_000
    assert len(set(Live(Case(live=50_000, policy="probe")).addresses.tolist())) == (64 << 20) // 4096
