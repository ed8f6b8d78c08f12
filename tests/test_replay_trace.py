# SPDX-License-Identifier: Apache-2.0
"""Reading traces: the samples, every kind of broken file, and whatever else a file may hold."""

from __future__ import annotations

import gzip
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_fast.replay import plan, samples, synth, trace
from iommufd_fast.replay.trace import TraceError

RANGE = "iova=0x00000000fffbe000 - 0x00000000fffbf000"
MAP = f"   dd-64  [000] ...1.  2.241395: map: IOMMU: {RANGE} paddr=0x00000000019ad000 size=4096\n"
UNMAP = f"  <idle>-0  [000] d.h1.  2.242330: unmap: IOMMU: {RANGE} size=4096 unmapped_size=4096\n"
TWO_PAGES = MAP.replace("fffbf000", "fffc0000").replace("4096", "8192")


def test_the_recorded_sample_is_what_it_is_said_to_be():
    found = trace.load(samples.path("nvme"))
    made = plan.make(found)
    assert (made.maps, len(made.steps) - made.maps, made.multi) == (13_406, 3_321, 1_502)
    assert made.skipped == made.unknown == 0 and made.peak == 32 and len(made.left) == 1


def test_the_synthetic_sample_keeps_more_than_ten_thousand_mappings_live():
    made = plan.make(trace.load(samples.path("nic")))
    live, lowest = 0, 1 << 60
    for i, step in enumerate(made.steps):
        live += 1 if step.event.is_map else -len(step.pieces)
        if i >= synth.QUEUES * synth.SLOTS:
            lowest = min(lowest, live)
    assert 10_000 <= synth.QUEUES * synth.SLOTS - 1 <= lowest <= made.peak
    assert made.multi > 200 and len(made.steps) > 30_000


def test_the_synthetic_sample_is_what_the_generator_makes(tmp_path):
    shipped = gzip.decompress(samples.path("nic").read_bytes()).decode()
    assert shipped == synth.text()
    assert "Synthetic" in shipped[:200]
    synth.main(str(tmp_path / "again.gz"))
    assert gzip.decompress((tmp_path / "again.gz").read_bytes()).decode() == shipped


def test_one_line_of_each():
    found = trace.parse(["# tracer: nop\n", "\n", MAP, UNMAP], "f")
    assert [e.line for e in found.events] == [3, 4]
    first, second = found.events
    assert first[1:] == (2.241395, 0xFFFBE000, 4096, 0x19AD000) and first.is_map
    assert second.paddr is None and second.end == 0xFFFBF000


@pytest.mark.parametrize(
    "line",
    [
        MAP.replace("dd-64", "kworker/u8:1-my task-64"),
        MAP.replace("  [000]", "  (     64) [000]"),
        MAP.replace("  [000]", "  (-------) [000]"),
        MAP.replace(": map:", ": iommu:map:"),
        "dd    64 [001]     2.241395:   iommu:map: IOMMU: iova=0x0 - 0x1000 paddr=0x1000 size=4096\n",
        MAP.replace("\n", "\r\n"),
    ],
)
def test_other_ways_to_write_the_same(line):
    assert trace.parse([line]).events[0].is_map


def test_other_events_are_counted_and_left_out():
    other = "   dd-64  [000] d..2.  2.241395: sched_switch: prev_comm=dd ==> next_comm=swapper\n"
    alike = "   dd-64  [000] d..2.  2.241395: kmem:map: something else\n"
    assert trace.parse([other, alike, MAP]).skipped == 2


WRONG = [
    ("", "f:1: expected an iommu:map or iommu:unmap event, got the end of the file"),
    ("# only comments\n", "f:2: expected an iommu:map or iommu:unmap event, got the end of the file"),
    ("hello\n", "f:1: expected a tracefs line"),
    (MAP + "\x00\xff\x01\n", "f:2: expected a tracefs line"),
    (MAP.replace("paddr=", "phys="), r"f:1: expected 'IOMMU: iova=0x… - 0x… paddr=0x… size=N', got 'IOMMU: iova=0x0"),
    (UNMAP.replace(" unmapped_size=4096", ""), "f:1: expected 'IOMMU: iova=0x… - 0x… size=N unmapped_size=N'"),
    (MAP.replace("fffbf000", "fffc0000"), "f:1: expected an exclusive end of 0xfffbf000 .*, got 0xfffc0000"),
    (MAP.replace("size=4096", "size=0"), "f:1: expected a range of at least one byte below 2.64"),
    (MAP.replace("size=4096", "size=4095").replace("fffbf000", "fffbefff"), "f:1: expected size to be"),
    (MAP.replace("19ad000", "19ad800"), "f:1: expected paddr to be a multiple of 4096, got 0x19ad800"),
    (TWO_PAGES.replace("0x00000000019ad000", "0xfffffffffffff000"), "f:1: expected physical memory below"),
    (MAP.replace("size=4096", "size=" + "9" * 5000), "f:1: expected 'IOMMU"),
    (MAP + UNMAP.replace("unmapped_size=4096", "unmapped_size=0"), "f:2: expected unmapped_size=4096, .*=0"),
    (MAP + "CPU:1 [LOST 17 EVENTS]\n", "f:2: expected every event of the recording .*, got 'CPU:1 .LOST 17 EVENTS.'"),
    ("   dd-64  [000] d..2.  2.2: sched_switch: x\n", "f:2: expected an iommu:map .* after 1 lines of other events"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[m[12:40] for _, m in WRONG])
def test_a_broken_file_names_the_line_and_what_was_expected(text, message):
    with pytest.raises(TraceError, match=message) as e:
        trace.read(io.BytesIO(text.encode("utf-8", "surrogateescape")), "f")
    assert f"f:{e.value.line}: expected {e.value.expected}, got {e.value.got}" == str(e.value)
    assert len(str(e.value)) < 300


def test_a_cut_gzip_file_names_the_line_it_broke_at(tmp_path):
    path = tmp_path / "cut.gz"
    path.write_bytes(samples.path("nvme").read_bytes()[:20_000])
    with pytest.raises(TraceError, match=r"cut\.gz:\d+: expected a whole gzip file, got a broken one"):
        trace.load(path)
    path.write_bytes(b"\x1f\x8bnot gzip at all")
    with pytest.raises(TraceError, match=r"cut\.gz:1: expected a whole gzip file"):
        trace.load(path)


def test_a_folder_and_a_missing_file_are_os_errors(tmp_path):
    with pytest.raises(IsADirectoryError):
        trace.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        trace.load(tmp_path / "no")


@given(st.lists(st.one_of(st.text(max_size=80), st.sampled_from([MAP, UNMAP, "# x"])), max_size=8))
def test_any_text_is_a_trace_or_an_exact_error(lines):
    try:
        found = trace.parse(lines, "f")
    except TraceError as e:
        assert 1 <= e.line <= len(lines) + 1
        assert re.fullmatch(r"f:\d+: expected .*, got .*", str(e), re.DOTALL)
    else:
        assert len(found.events) >= 1


@given(st.integers(0, len(MAP) - 2), st.characters(), st.sampled_from([MAP, UNMAP]))
def test_one_wrong_character_never_gives_an_impossible_event(at, char, line):
    try:
        events = trace.parse([line[:at] + char + line[at + 1 :]], "f").events
    except TraceError as e:
        assert e.line in (1, 2)
    else:
        for e in events:
            assert e.size > 0 and e.iova % 4096 == e.size % 4096 == (e.paddr or 0) % 4096 == 0
            assert e.end <= 1 << 64


@given(st.binary(max_size=200))
def test_any_bytes_are_a_trace_or_an_exact_error(data):
    with pytest.raises(TraceError, match=r"^f:\d+: expected "):
        trace.read(io.BytesIO(data), "f")
    with pytest.raises(TraceError, match=r"^f:\d+: expected "):
        trace.read(io.BytesIO(b"\x1f\x8b" + data), "f")
