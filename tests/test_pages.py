# SPDX-License-Identifier: Apache-2.0
"""PinnedPages: arguments, errors, probing, accounting, identities, threads."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest

from iommufd_fast._core.pages import PinnedPages

PAGE = 4096


def anonymous(npages: int) -> mmap.mmap:
    return mmap.mmap(-1, npages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def test_slots_of_a_buffer():
    array = np.zeros(5 * PAGE, np.uint8)
    with PinnedPages(array) as p:
        first = array.ctypes.data // PAGE
        last = (array.ctypes.data + array.nbytes - 1) // PAGE
        assert len(p) == last - first + 1
        assert p.address == first * PAGE
        assert p.writable and not p.closed
        p.hold()
        addresses, npages = p.runs()
        assert addresses.tolist() == [p.address] and npages.tolist() == [len(p)]
        assert addresses.dtype == npages.dtype == np.uint64
        assert p.runs(2, 3)[0].tolist() == [p.address + 2 * PAGE]
        p.release()
    assert p.closed and "closed" in repr(p)


def test_the_buffer_is_kept_alive_and_let_go():
    data = bytearray(PAGE)
    p = PinnedPages(data)
    with pytest.raises(BufferError):
        data.append(1)
    p.close()
    p.close()
    data.append(1)
    with pytest.raises(ValueError, match="closed"):
        p.hold()


@pytest.mark.parametrize(
    ("source", "options", "error", "says"),
    [
        (b"x" * 10, {"writable": True}, ValueError, "read-only"),
        (np.zeros((8, 8))[:, ::2], {}, ValueError, "not contiguous"),
        (b"", {}, ValueError, "length is 0"),
        ((4096, 0), {}, ValueError, "length is 0"),
        ((4096.0, 1), {}, TypeError, "address is 4096.0"),
        ((-1, 1), {}, ValueError, "address is -1"),
        ((0, 1 << 64), {}, ValueError, "length is 18446744073709551616"),
        ((0, 1, 2), {}, TypeError, "address, length"),
        (17, {}, TypeError, "buffer|bytes-like"),
        ("text", {}, TypeError, "buffer|bytes-like"),
        (bytearray(1), {"policy": "hope"}, ValueError, "'trust', 'probe'"),
        (bytearray(1), {"accounting": "uid"}, ValueError, "'none', 'user', 'process'"),
        (bytearray(1), {"address": "pa"}, ValueError, "'va', 'synthetic'"),
    ],
)
def test_refused_sources(source, options, error, says):
    with pytest.raises(error, match=says):
        PinnedPages(source, **options)


def test_range_past_the_end():
    with pytest.raises(OSError) as caught:
        PinnedPages(((1 << 64) - 1, 2))
    assert caught.value.errno == errno.EOVERFLOW


def test_read_only_and_fortran_buffers():
    assert not PinnedPages(b"x" * 10).writable
    assert not PinnedPages(bytearray(10), writable=False).writable
    assert len(PinnedPages(np.zeros((64, 64), order="F"))) >= 8


@pytest.mark.parametrize("bad", [1.0, "1", None, [1]])
def test_slots_are_integers(bad):
    p = PinnedPages((0, 4 * PAGE))
    with pytest.raises(TypeError, match="first"):
        p.hold(bad, 1)
    if bad is not None:
        with pytest.raises(TypeError, match="last"):
            p.release(0, bad)
    with pytest.raises(TypeError):
        p.hold_many([1.5], [2])


@pytest.mark.parametrize(("first", "last"), [(2, 1), (0, 4), (-1, 1), (4, 4), (1 << 64, 1 << 64)])
def test_slots_are_inside(first, last):
    p = PinnedPages((0, 4 * PAGE))
    with pytest.raises(ValueError):
        p.hold(first, last)
    with pytest.raises(TypeError if first == 1 << 64 else ValueError):  # NumPy has no integer for that one
        p.hold_many([0, first], [0, last])
    assert p.stats()["intervals"] == 0


def test_release_needs_a_hold():
    p = PinnedPages((0, 4 * PAGE))
    p.hold(0, 1)
    p.hold(2, 3)
    for first, last in [(0, 3), (0, 0), (1, 2)]:
        with pytest.raises(ValueError, match="not held as one interval"):
            p.release(first, last)
    p.release(0, 1)
    with pytest.raises(ValueError):
        p.release(0, 1)
    assert p.is_valid() and p.pinned == 2
    p.close()


def test_held_is_a_context():
    p = PinnedPages((0, 8 * PAGE))
    with p.held(2, 5) as h, p.held(4):
        assert (h.first, h.last, h.pages) == (2, 5, p)
        assert [p.holds(i) for i in range(8)] == [0, 0, 1, 1, 2, 2, 1, 1]
    assert p.pinned == 0
    with pytest.raises(KeyError), p.held():
        raise KeyError
    assert p.pinned == 0 and p.is_valid()


def test_runs_only_of_held_slots():
    p = PinnedPages((0, 8 * PAGE))
    p.hold(0, 2)
    with pytest.raises(ValueError, match="slot 3 is not held"):
        p.runs(1, 5)
    assert p.stats() == {"npages": 8, "pinned": 3, "intervals": 1, "charged": 0}
    p.close()


def test_probe_finds_what_is_missing():
    area = anonymous(4)
    with PinnedPages(area, policy="probe") as p:
        base = p.address
        p.hold()
        p.release()
    area.close()
    # Nothing else maps memory between the close and the probe; a hole is a hole.
    with PinnedPages((0x1000, 2 * PAGE), policy="probe") as q:
        with pytest.raises(OSError) as caught:
            q.hold(1, 1)
        assert caught.value.errno == errno.EFAULT and q.pinned == 0 and q.is_valid()
    with PinnedPages((base, PAGE)) as trusting:
        trusting.hold()
        trusting.release()


def test_probe_wants_write_permission_only_when_writable():
    data = mmap.mmap(-1, 2 * PAGE, prot=mmap.PROT_READ)
    with PinnedPages(data, policy="probe") as p:
        assert not p.writable
        p.hold()
        base = p.address
        p.release()
        with PinnedPages((base, 2 * PAGE), policy="probe") as q, pytest.raises(OSError):
            q.hold()


def test_hold_many_is_all_or_nothing():
    area = anonymous(4)
    with PinnedPages(area, policy="probe") as probe:
        base = probe.address
    hole = mmap.mmap(-1, PAGE, prot=mmap.PROT_READ)
    with PinnedPages(hole) as p:
        read_only = p.address
    low = min(base, read_only)
    p = PinnedPages((low, max(base, read_only) - low + PAGE), policy="probe")
    good, bad = (base - low) // PAGE, (read_only - low) // PAGE
    p.hold(good, good)
    with pytest.raises(OSError, match="interval 2") as caught:
        p.hold_many([good, good, bad, good], [good, good, bad, good])
    assert caught.value.errno == errno.EFAULT and caught.value.index == 2
    assert p.stats()["intervals"] == 1 and p.is_valid()
    p.release(good, good)
    p.close()
    hole.close()


def test_many():
    n = 1000
    p = PinnedPages((0, 2 * n * PAGE))
    first = np.arange(n, dtype=np.uint64) * 2
    p.hold_many(first, first)
    p.hold_many(first.astype(np.int32)[::-1], (first + 1)[::-1])
    assert p.pinned == 2 * n and p.stats()["intervals"] == 2 * n and p.is_valid()
    with pytest.raises(ValueError, match=r"interval 1 .* none was released"):
        p.release_many([0, 1], [0, 1])
    p.release_many(first, first + 1)
    assert [p.holds(i) for i in range(4)] == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="interval 1 "):
        p.release_many([2, 2], [2, 2])
    p.release_many(first, first)
    p.hold_many([], [])
    assert p.pinned == 0 and p.is_valid()
    with pytest.raises(ValueError, match="as many"):
        p.hold_many([1], [1, 2])
    with pytest.raises(ValueError, match="interval 1"):
        p.hold_many([1, 3], [1, 2])
    with pytest.raises(TypeError, match="one dimension"):
        p.hold_many([[1]], [[1]])


def test_two_mappings_of_a_memfd_are_one():
    fd = os.memfd_create("pages")
    os.ftruncate(fd, 8 * PAGE)
    a, b = mmap.mmap(fd, 8 * PAGE), mmap.mmap(fd, 4 * PAGE, offset=4 * PAGE)
    os.close(fd)
    with PinnedPages(a, address="synthetic") as p, PinnedPages(b, address="synthetic", policy="probe") as q:
        p.hold()
        assert p.pins(5) == 1
        q.hold(1, 2)
        assert p.pins(5) == p.pins(6) == q.pins(1) == 2
        assert p.pins(4) == p.pins(7) == 1
        assert q.runs(1, 2)[0][0] == p.runs(5, 6)[0][0] != p.address + 5 * PAGE
        p.hold(5, 5)
        assert p.pins(5) == 2
        assert p.is_valid() and q.is_valid()
        p.release()
        assert q.pins(1) == 2 and q.pins(2) == 1
        p.release(5, 5)
        q.release(1, 2)
    with PinnedPages((0, PAGE)) as va, va.held(), pytest.raises(ValueError, match="synthetic"):
        va.pins(0)


def test_synthetic_wants_a_mapping():
    with PinnedPages((0x1000, PAGE), address="synthetic") as p:
        with pytest.raises(OSError) as caught:
            p.hold()
        assert caught.value.errno == errno.EFAULT and p.is_valid()


LIMIT = """
import errno, resource, sys
from iommufd_fast._core.pages import PinnedPages
resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 * 4096, 16 * 4096))
a, b = (PinnedPages((0, 6 * 4096), accounting=sys.argv[1]) for _ in range(2))
a.hold()
a.hold()
try:
    b.hold()
    raise SystemExit("was not refused")
except OSError as error:
    assert error.errno == errno.ENOMEM, error
assert b.pinned == 0 and a.stats()["charged"] == 6
resource.setrlimit(resource.RLIMIT_MEMLOCK, (12 * 4096, 16 * 4096))
b.hold()
assert a.stats()["charged"] == 12
a.close()
assert b.stats()["charged"] == 6
b.close()
"""


@pytest.mark.parametrize("accounting", ["user", "process"])
def test_limit(accounting):
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] >= 16 * PAGE
    subprocess.run([sys.executable, "-c", LIMIT, accounting], check=True, timeout=60)


def test_threads_hold_and_release_one_object():
    p = PinnedPages((0, 16 * PAGE), accounting="process")
    failures = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            for _ in range(300):
                first, last = sorted(random.integers(0, 16, 2).tolist())
                with p.held(first, last), p.held():
                    assert p.holds(first) >= 2
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures and p.pinned == 0 and p.stats()["charged"] == 0 and p.is_valid()


def test_forgotten_holds_are_reported_and_released():
    area = anonymous(1)
    p = PinnedPages(area)
    p.hold()
    with pytest.warns(ResourceWarning, match="went away with intervals held"):
        del p
        gc.collect()
    area.close()  # BufferError if the export were still there
