# SPDX-License-Identifier: Apache-2.0
"""Replays: the ledger against a plain model, whole samples into both floors, and engines that lie."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_fast.replay import plan, samples, trace
from iommufd_fast.replay.floors import Memory, TableFloor
from iommufd_fast.replay.ledger import Ledger
from iommufd_fast.replay.run import ReplayError, replay
from iommufd_fast.replay.trace import Event, Trace, TraceError

PAGE = 4096
FLOORS = ["pagetable", "ioas"]


def made(*events: tuple[str, int, int, int]) -> Trace:
    """A trace from (m or u, first page, pages, physical page)."""
    return Trace(
        "t",
        tuple(
            Event(i, 0.0, a * PAGE, n * PAGE, p * PAGE if k == "m" else None)
            for i, (k, a, n, p) in enumerate(events, 1)
        ),
    )


EVENTS = st.lists(
    st.tuples(st.sampled_from("mu"), st.integers(0, 12), st.integers(1, 4), st.integers(0, 9)), max_size=30
)


@given(EVENTS)
def test_the_ledger_agrees_with_a_dict_of_pages(events):
    ledger, pages = Ledger("t"), {}  # page -> the map's line
    for event in made(*events).events:
        span = range(event.iova // PAGE, event.end // PAGE)
        inside = {pages[p] for p in span if p in pages}
        if event.is_map:
            if inside:
                with pytest.raises(TraceError, match=f"^t:{event.line}: expected a free range"):
                    ledger.map(event)
            else:
                ledger.map(event)
                pages.update(dict.fromkeys(span, event.line))
            continue
        whole = all(p in pages for p in span) and all(p in span for p, line in pages.items() if line in inside)
        if whole:
            assert {e.line for e in ledger.unmap(event)} == inside
            for p in span:
                del pages[p]
        else:
            wanted = "whole mapped ranges" if inside else "a range that an earlier line mapped"
            with pytest.raises(TraceError, match=f"^t:{event.line}: expected {wanted}"):
                ledger.unmap(event)
        assert len(ledger) == len(set(pages.values()))


def test_unmaps_of_what_was_mapped_before_the_recording():
    recorded = made(("u", 50, 1, 0), ("m", 1, 2, 7), ("u", 1, 2, 0), ("u", 60, 2, 0))
    with pytest.raises(TraceError, match=r"t:1: expected a range that an earlier line mapped .*--skip-unknown"):
        plan.make(recorded)
    kept = plan.make(recorded, skip_unknown=True)
    assert kept.unknown == 2 and [s.event.line for s in kept.steps] == [2, 3]


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 700)), min_size=1, max_size=12))
def test_memory_keeps_what_is_contiguous_and_nothing_else(ranges):
    at, events = 0, []
    for start, n in ranges:
        events.append(("m", at, n, start))
        at += n
    found = plan.make(made(*events))
    memory = Memory(found)
    try:
        named = sorted({p for start, n in ranges for p in range(start, start + n)})
        where = {p: memory.address(p * PAGE) for p in named}
        assert len(set(where.values())) == len(named)
        for p, after in pairwise(named):
            assert (where[after] - where[p] == PAGE) == (after == p + 1)
        for start, n in ranges:
            if n >= 512:
                assert (where[start] - start * PAGE) % (2 << 20) == 0
    finally:
        memory.close()


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("name", list(samples.SAMPLES))
def test_a_whole_sample(name, floor):
    found = plan.make(trace.load(samples.path(name)))
    result = replay(found, floor, repeat=1)
    for key in ("events", "maps", "unmaps", "multi_map_unmaps", "live_peak"):
        assert result[key] > 0, key
    assert result["checks"] > 4 * result["events"]
    assert sum(int(size) * n for size, n in result["leaves_at_peak"].items()) == peak_bytes(found)
    assert result["times_ns"]["map"]["n"] == found.maps
    assert result["times_ns"]["unmap_multi"]["n"] == found.multi


def peak_bytes(found: plan.Plan) -> int:
    live = 0
    for step in found.steps[: found.peak_at + 1]:
        live += step.event.size if step.event.is_map else -step.event.size
    return live


def test_the_ioas_floor_on_the_other_preset():
    found = plan.make(made(("m", 1, 1, 8), ("m", 2, 1, 9), ("u", 1, 2, 0), ("m", 1, 1, 3)))
    assert replay(found, "ioas", preset="amd", repeat=2)["live_at_end"] == 1


def test_large_runs_become_large_leaves_on_both_floors():
    found = plan.make(made(("m", 512, 1024, 4096), ("u", 512, 1024, 0)))
    for floor in FLOORS:
        assert replay(found, floor, repeat=1)["leaves_at_peak"] == {str(2 << 20): 2}, floor


@pytest.mark.parametrize("floor", FLOORS)
def test_what_the_engine_refuses_is_told_with_the_line(floor):
    found = plan.make(Trace("t", (Event(7, 0.0, 1 << 60, PAGE, PAGE),)))
    with pytest.raises(ReplayError, match=r"^t:7: map of 0x1000000000000000-0x1000000000001000: "):
        replay(found, floor)


def test_the_msi_window_is_refused_with_the_line():
    found = plan.make(made(("m", 0xFEE00, 1, 5)))
    with pytest.raises(ReplayError, match=r"^t:1: map of 0xfee00000-0xfee01000: refused: "):
        replay(found, "ioas")


class Lies:
    """A page table that is wrong in one way."""

    def __init__(self, monkeypatch, **methods):
        for name, method in methods.items():
            monkeypatch.setattr(TableFloor, name, method)


HONEST = {name: getattr(TableFloor, name) for name in ("translate", "map", "unmap")}


def shifted(self, iova):
    address = HONEST["translate"](self, iova)
    return address and address + PAGE


def forgets_the_last_page(self, event):
    self.table.map(event.iova, event.paddr, event.size - PAGE or PAGE, "rw")


def keeps_the_first_map(self, event):
    self.table.unmap(event.iova + PAGE, event.size - PAGE)
    return event.size


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"translate": shifted}, r"t:1: .*after it, IOVA 0x1000 should translate to 0x8000, got 0x9000"),
        ({"map": forgets_the_last_page}, r"t:2: .*after it, IOVA 0x3000 should translate to 0xa000, got a hole"),
        ({"map": lambda self, e: None}, r"t:1: .*after it, IOVA 0x1000 should translate to 0x8000, got a hole"),
        ({"unmap": lambda self, e: e.size}, r"t:3: .*after it, IOVA 0x1000 should translate to a hole, got 0x8000"),
        ({"unmap": keeps_the_first_map}, r"t:3: .*after it, IOVA 0x1000 should translate to a hole, got 0x8000"),
        (
            {"unmap": lambda self, e: HONEST["unmap"](self, e) - PAGE},
            r"t:3: .*8192 bytes were unmapped, the trace says 12288",
        ),
    ],
)
def test_an_engine_that_lies_is_found_out(methods, message, monkeypatch):
    Lies(monkeypatch, **methods)
    found = plan.make(made(("m", 1, 1, 8), ("m", 2, 2, 9), ("u", 1, 3, 0)))
    with pytest.raises(ReplayError, match=message):
        replay(found, "pagetable", repeat=1)
