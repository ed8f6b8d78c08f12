# SPDX-License-Identifier: Apache-2.0
"""Dirty pages through Python: exactly what devices wrote to, whatever the size of the entries and the gaps between."""

from __future__ import annotations

import mmap
import random
import threading

import numpy as np
import pytest

import iommufd_fast as iof
from iommufd_fast import uapi

PAGE = 4096
TRACK = uapi.HwptFlag.DIRTY_TRACKING


def pages(n: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, n * PAGE), np.uint8)


@pytest.fixture(params=["intel", "amd"])
def ctx(request):
    with iof.Machine(request.param, groups=[1]) as m, m.open() as c:
        yield c


@pytest.fixture
def dev(ctx):
    return ctx.bind(0)


@pytest.fixture
def ioas(ctx):
    return ctx.ioas()


@pytest.fixture
def place(ioas):
    """Maps, and keeps what it maps until the test is over."""
    kept = []

    def put(memory, iova):
        kept.append(ioas.map(memory, iova=iova))
        return kept[-1]

    yield put
    for mapping in kept:
        mapping.close()


@pytest.fixture
def hwpt(ctx, dev, ioas):
    made = ctx.hwpt(dev, ioas, TRACK)
    dev.attach(made)
    return made


def small_pages(ioas):
    ioas.huge_pages = False


def test_tracking_is_read_and_set(ctx, dev, ioas, hwpt):
    assert hwpt.dirty_tracking is False
    hwpt.dirty_tracking = True
    assert hwpt.dirty_tracking is True and hwpt.stats().tracking
    hwpt.dirty_tracking = False
    assert hwpt.dirty_tracking is False
    plain = ctx.hwpt(dev, ioas)
    with pytest.raises(iof.NotSupported, match="DIRTY_TRACKING") as e:
        plain.dirty_tracking = True
    assert e.value.errno == 95 and plain.dirty_tracking is False
    with pytest.raises(iof.NotSupported, match="DIRTY_TRACKING"):
        plain.dirty()


def test_a_write_is_told_once(place, ioas, dev, hwpt):
    small_pages(ioas)
    m = place(pages(16), 0x100000)
    dev.dma_write(m.iova, b"before tracking")
    assert list(hwpt.dirty()) == []
    hwpt.dirty_tracking = True
    assert list(hwpt.dirty()) == []
    dev.dma_write(m.iova + 5, b"x")
    dev.dma_write(m.iova + 3 * PAGE - 1, b"xy")
    dev.dma_read(m.iova + 9 * PAGE, 100)
    expected = [(0x100000, 0x100FFF), (0x102000, 0x103FFF)]
    assert list(hwpt.dirty(clear=False)) == expected
    assert list(hwpt.dirty()) == expected
    assert list(hwpt.dirty()) == []
    dev.dma_fill(m.iova, PAGE, 1)
    hwpt.dirty_tracking = False
    dev.dma_fill(m.iova + PAGE, PAGE, 1)
    assert list(hwpt.dirty(clear=False)) == [(0x100000, 0x100FFF)]
    hwpt.dirty_tracking = True  # forgets
    assert list(hwpt.dirty()) == []


def test_gaps_and_large_entries_hide_nothing(place, ioas, dev, hwpt):
    """What the raw command leaves out: mappings behind a gap, and entries of several items."""
    hwpt.dirty_tracking = True
    memory = mmap.mmap(-1, 6 << 20)
    base = np.frombuffer(memory, np.uint8)
    at = (-base.ctypes.data) % (2 << 20)
    large = place(base[at : at + (2 << 20)], 4 << 20)
    far = place(pages(1), 1 << 32)
    dev.dma_write(far.iova, b"x")
    dev.dma_write(large.iova + 0x12345, b"x")
    leaf = max(hwpt.stats().leaves)
    assert leaf > PAGE
    found = list(hwpt.dirty(clear=False))
    assert found[0][0] <= large.iova + 0x12345 <= found[0][1]
    assert found[0][1] - found[0][0] + 1 >= leaf
    assert found[-1] == (1 << 32, (1 << 32) + PAGE - 1)
    # The raw door, over the same: the gap ends it.
    bitmap = np.zeros(((1 << 32) + PAGE) // PAGE // 8 + PAGE, np.uint8)
    cmd = np.zeros((), uapi.HWPT_GET_DIRTY_BITMAP)
    cmd["size"], cmd["hwpt_id"], cmd["flags"] = cmd.itemsize, hwpt.id, 1
    cmd["iova"], cmd["length"], cmd["page_size"], cmd["data"] = 0, (1 << 32) + PAGE, PAGE, bitmap.ctypes.data
    hwpt.context.ioctl(uapi.Command.HWPT_GET_DIRTY_BITMAP, cmd)
    assert not bitmap.any()


def test_an_entry_that_sticks_out_stays_dirty(place, ioas, dev, hwpt):
    hwpt.dirty_tracking = True
    memory = np.frombuffer(mmap.mmap(-1, 4 << 20), np.uint8)
    at = (-memory.ctypes.data) % (2 << 20)
    m = place(memory[at : at + (2 << 20)], 2 << 20)
    dev.dma_write(m.iova, b"x")
    ((first, last),) = hwpt.dirty(clear=False)
    assert last - first + 1 == 2 << 20, "memory and IOVA lie alike in 2 MiB, so one large entry shows them"
    middle = first + PAGE
    assert list(hwpt.dirty(middle, middle + PAGE - 1)) == [(middle, middle + PAGE - 1)]
    assert list(hwpt.dirty(clear=False)) == [(first, last)]
    assert hwpt.dirty(middle, middle + PAGE - 1, as_="bitmap").tolist() == [1]
    assert list(hwpt.dirty(first, last)) == [(first, last)]
    assert list(hwpt.dirty()) == []


def test_more_ranges_than_one_call_takes(place, ioas, dev, hwpt, monkeypatch):
    monkeypatch.setattr("iommufd_fast.hwpt._ROOM", 7)
    small_pages(ioas)
    hwpt.dirty_tracking = True
    m = place(pages(256), 0x100000)
    rng = random.Random(3)
    wanted = sorted(rng.sample(range(256), 100))
    for page in wanted:
        dev.dma_write(m.iova + page * PAGE + rng.randrange(PAGE), b"x")
    joined = [(first, last) for first, last in hwpt.dirty(clear=False)]
    seen = [page for first, last in joined for page in range((first - m.iova) // PAGE, (last + 1 - m.iova) // PAGE)]
    assert seen == wanted
    array = hwpt.dirty(as_="array")
    assert array.dtype == np.uint64 and array.shape[1] == 2
    assert [p for f, la in array.tolist() for p in range((f - m.iova) // PAGE, (la + 1 - m.iova) // PAGE)] == wanted
    assert list(hwpt.dirty()) == []


def test_bitmap(place, ioas, dev, hwpt):
    small_pages(ioas)
    hwpt.dirty_tracking = True
    m = place(pages(100), 0x100000)
    for page in (0, 7, 8, 40, 41, 99):
        dev.dma_fill(m.iova + page * PAGE, 1, 1)
    last = m.iova + 100 * PAGE - 1
    bitmap = hwpt.dirty(m.iova, last, clear=False, as_="bitmap")
    assert bitmap.dtype == np.uint8 and len(bitmap) == 13
    assert np.flatnonzero(np.unpackbits(bitmap, bitorder="little")).tolist() == [0, 7, 8, 40, 41, 99]
    coarse = hwpt.dirty(m.iova, last, clear=False, page_size=4 * PAGE, as_="bitmap")
    assert np.flatnonzero(np.unpackbits(coarse, bitorder="little")).tolist() == [0, 1, 2, 10, 24]
    fine = hwpt.dirty(m.iova, m.iova + PAGE - 1, clear=False, page_size=1024, as_="bitmap")
    assert fine.tolist() == [0b1111]
    shifted = hwpt.dirty(m.iova + 7 * PAGE, m.iova + 9 * PAGE - 1, as_="bitmap")
    assert shifted.tolist() == [0b11]
    rest = hwpt.dirty(m.iova, last, as_="bitmap")
    assert np.flatnonzero(np.unpackbits(rest, bitorder="little")).tolist() == [0, 40, 41, 99]
    assert not hwpt.dirty(m.iova, last, as_="bitmap").any()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"start": 5, "last": 4}, "greater than last"),
        ({"as_": "list"}, "as_ must be"),
        ({"as_": "bitmap"}, "needs start and last"),
        ({"page_size": PAGE}, "for bitmaps"),
        ({"start": 0, "last": PAGE - 1, "as_": "bitmap", "page_size": 3000}, "power of two"),
        ({"start": 0, "last": PAGE - 1, "as_": "bitmap", "page_size": 0}, "power of two"),
        ({"start": 0, "last": 2**64 - 1, "as_": "bitmap", "page_size": 1}, "too large"),
        ({"start": -1}, "start"),
    ],
)
def test_wrong_arguments(hwpt, arguments, error):
    with pytest.raises(ValueError, match=error):
        hwpt.dirty(**arguments)


def test_beyond_the_aperture_there_is_nothing(hwpt):
    assert list(hwpt.dirty(2**63, 2**64 - 1)) == []


def test_a_closed_page_table(hwpt, dev):
    dev.detach()
    hwpt.close()
    with pytest.raises(ValueError, match="closed"):
        hwpt.dirty()
    with pytest.raises(ValueError, match="closed"):
        hwpt.dirty_tracking = True


def test_nothing_is_lost_to_a_copy_that_runs_beside_writes(place, ioas, dev, hwpt):
    """Migration: copy what is dirty again and again while a device writes; the last round makes both equal."""
    small_pages(ioas)
    source, target = pages(64), np.zeros(64 * PAGE, np.uint8)
    m = place(source, 0x100000)
    neighbour = pages(8)
    hwpt.dirty_tracking = True
    stop = threading.Event()

    def write():
        rng = random.Random(1)
        while not stop.is_set():
            dev.dma_fill(m.iova + rng.randrange(64) * PAGE, PAGE, rng.randrange(1, 256))

    def come_and_go():
        while not stop.is_set():  # tables come and go under the walk
            ioas.map(neighbour, iova=0x40000000).close()

    def copy():
        for first, last in hwpt.dirty():
            a, b = first - m.iova, last + 1 - m.iova
            target[a:b] = source[a:b]

    threads = [threading.Thread(target=write), threading.Thread(target=come_and_go)]
    for t in threads:
        t.start()
    for _ in range(300):
        copy()
    stop.set()
    for t in threads:
        t.join()
    copy()
    assert (source == target).all() and source.any()
