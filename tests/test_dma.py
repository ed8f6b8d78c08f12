# SPDX-License-Identifier: Apache-2.0
"""Soft devices do DMA through their page table only: what must work does, what must fail does, and nothing crashes."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time

import numpy as np
import pytest

import iommufd_fast as iof

PAGE = mmap.PAGESIZE


@pytest.fixture(params=["intel", "amd"])
def machine(request):
    with iof.Machine(request.param, groups=[1, 1]) as m:
        yield m


@pytest.fixture
def ctx(machine):
    with machine.open() as c:
        yield c


@pytest.fixture
def dev(ctx):
    return ctx.bind(0)


@pytest.fixture
def ioas(ctx, dev):
    space = ctx.ioas()
    dev.attach(space)
    return space


def pages(n: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, n * PAGE), np.uint8)


def fault(call, *arguments) -> iof.DmaFault:
    with pytest.raises(iof.DmaFault) as e:
        call(*arguments)
    assert e.value.errno == 14 and isinstance(e.value, OSError)
    return e.value


def test_read_write_fill_copy(dev, ioas):
    buf = pages(4)
    with ioas.map(buf) as m:
        dev.dma_write(m.iova + PAGE - 2, b"span")
        assert bytes(buf[PAGE - 2 : PAGE + 2]) == b"span"
        assert dev.dma_read(m.iova + PAGE - 2, 4) == b"span"
        dev.dma_fill(m.iova + 2 * PAGE, PAGE, 0xA5)
        assert (buf[2 * PAGE : 3 * PAGE] == 0xA5).all() and buf[3 * PAGE] == 0
        dev.dma_copy(m.iova + 3 * PAGE, m.iova + PAGE - 2, 4)
        assert bytes(buf[3 * PAGE : 3 * PAGE + 4]) == b"span"
        into = bytearray(4)
        dev.dma_read_into(m.iova + PAGE - 2, into)
        assert into == b"span"
        array = np.arange(100, dtype=np.uint32)
        dev.dma_write(m.iova, array)
        assert (buf[:400].view(np.uint32) == array).all()
        with pytest.raises(iof.Invalid, match="empty"):
            dev.dma_read(m.iova, 0)


def test_scatter_gather(dev, ioas):
    buf = pages(4)
    with ioas.map(buf) as m:
        where = [(m.iova + 3 * PAGE, 3), (m.iova, 2), (m.iova + PAGE, 5)]
        dev.dma_write(where, b"0123456789")
        assert bytes(buf[3 * PAGE : 3 * PAGE + 3]) == b"012" and bytes(buf[:2]) == b"34"
        assert dev.dma_read(where) == b"0123456789" and dev.dma_read([]) == b""
        e = fault(dev.dma_write, [*where[:2], (m.iova + 9 * PAGE, 5)], b"abcdeVWXYZ")
        assert (e.iova, e.done, e.write, e.reason) == (m.iova + 9 * PAGE, 5, True, "unmapped")
        assert bytes(buf[:2]) == b"de"


def test_no_reach_without_attachment(ctx, dev):
    e = fault(dev.dma_read, 0x1000, 1)
    assert (e.reason, e.iova, e.done, e.write) == ("blocked", 0x1000, 0, False)
    ioas = ctx.ioas()
    with ioas.map(pages(1)) as m:
        assert fault(dev.dma_read, m.iova, 1).reason == "blocked"
        dev.attach(ioas)
        assert dev.dma_read(m.iova, 1) == b"\0"
        dev.detach()
        assert fault(dev.dma_read, m.iova, 1).reason == "blocked"


def test_a_device_reaches_its_own_space_only(ctx, dev, ioas):
    other_dev, other = ctx.bind(1), ctx.ioas()
    other_dev.attach(other)
    mine, theirs = pages(1), pages(1)
    mine[0], theirs[0] = 1, 2
    with ioas.map(mine, iova=0x10000), other.map(theirs, iova=0x20000):
        assert dev.dma_read(0x10000, 1) == b"\1" and other_dev.dma_read(0x20000, 1) == b"\2"
        assert fault(dev.dma_read, 0x20000, 1).reason == "unmapped"
        assert fault(other_dev.dma_write, 0x10000, b"x").reason == "unmapped"
        other_dev.attach(ioas)
        assert other_dev.dma_read(0x10000, 1) == b"\1" and fault(other_dev.dma_read, 0x20000, 1).reason == "unmapped"


def test_faults_tell_where(dev, ioas):
    buf = pages(2)
    with ioas.map(buf, iova=0x10000):
        e = fault(dev.dma_write, 0x11FF0, bytes(32))
        assert (e.reason, e.iova, e.done, e.write) == ("unmapped", 0x12000, 16, True)
        assert "0x12000" in str(e) and "soft-0" in str(e)
    assert fault(dev.dma_read, 0x10000, 1).reason == "unmapped"
    assert fault(dev.dma_copy, 0x10000, 0x20000, 8).write is False


def test_unmap_ends_access_at_once(dev, ioas):
    buf = pages(1)
    m = ioas.map(buf)
    dev.dma_write(m.iova, b"warm")  # now the IOTLB knows it
    m.unmap()
    assert fault(dev.dma_write, m.iova, b"late").reason == "unmapped" and bytes(buf[:4]) == b"warm"


def test_a_broken_iommu_shows_stale_pages(machine, dev, ioas):
    buf = pages(1)
    m = ioas.map(buf)
    dev.dma_write(m.iova, b"before")
    machine.drop_invalidations(True)
    m.unmap()
    dev.dma_write(m.iova, b"stale!")  # the hook makes the bug visible that invalidation prevents
    assert bytes(buf[:6]) == b"stale!" and machine.iotlb.dropped > 0
    machine.drop_invalidations(False)
    ioas.map(pages(1), iova=m.iova).unmap()  # invalidates that IOVA, as it should
    assert fault(dev.dma_read, m.iova, 1).reason == "unmapped"


def test_iotlb_counts(machine, dev, ioas):
    with ioas.map(pages(1)) as m:
        before = machine.iotlb
        for _ in range(10):
            dev.dma_read(m.iova, 8)
        after = machine.iotlb
        assert after.misses - before.misses == 1 and after.hits - before.hits == 9
    assert machine.iotlb.invalidations > after.invalidations


def test_truncated_memory_is_a_fault(dev, ioas):
    fd = os.memfd_create("iof")
    os.ftruncate(fd, 4 * PAGE)
    area = mmap.mmap(fd, 4 * PAGE)
    m = ioas.map(area)
    dev.dma_write(m.iova + 3 * PAGE, b"fine")
    os.ftruncate(fd, 2 * PAGE)
    dev.dma_write(m.iova + PAGE, b"still")
    for call, arguments in ((dev.dma_write, (b"gone",)), (dev.dma_read, (4,)), (dev.dma_fill, (4, 1))):
        e = fault(call, m.iova + 3 * PAGE, *arguments)
        assert e.reason == "memory" and e.iova == m.iova + 3 * PAGE and e.done == 0
    e = fault(dev.dma_read, m.iova + PAGE, 2 * PAGE)
    assert e.reason == "memory" and e.done in (0, PAGE)  # at least so much; a piece is moved or not
    m.close()
    os.close(fd)


def test_unmapped_memory_is_a_fault(dev, ioas):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    at = libc.mmap(None, 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    with ioas.map(at, 2 * PAGE, trusted=True) as m:
        dev.dma_write(m.iova, b"here")
        assert libc.munmap(at, 2 * PAGE) == 0
        assert fault(dev.dma_read, m.iova, 4).reason == "memory"
        assert fault(dev.dma_write, m.iova + PAGE, b"x").reason == "memory"
    with pytest.raises(iof.BadAddress):
        ioas.map(at, 2 * PAGE)  # probed


def test_a_bad_target_of_a_read_leaves_the_engine_well(machine, dev, ioas):
    with ioas.map(pages(1)) as m:
        with pytest.raises((ValueError, BufferError)):
            dev.dma_read_into(m.iova, b"read-only")
        with pytest.raises(ValueError, match="segments have 3 bytes"):
            dev.dma_write([(m.iova, 3)], b"four")
    assert machine.is_valid()


def test_unmap_while_another_thread_does_dma(machine, dev, ioas):
    """When unmap returns, no device touches the memory: a page handed on stays as its new owner wrote it."""
    buf = pages(64)
    stop, seen, wrong = threading.Event(), {"done": 0, "fault": 0}, []

    def device():
        while not stop.is_set():
            try:
                dev.dma_fill(0x100000, 64 * PAGE, 0xFF)
                seen["done"] += 1
            except iof.DmaFault as e:
                if e.reason != "unmapped":
                    wrong.append(e)
                seen["fault"] += 1

    thread = threading.Thread(target=device)
    thread.start()
    try:
        rounds = 0
        while rounds < 300 or (not (seen["done"] and seen["fault"]) and rounds < 20000):
            rounds += 1
            m = ioas.map(buf, iova=0x100000)
            time.sleep(2e-5 if rounds % 2 else 0)  # gives the device the GIL for a moment, to begin
            m.unmap()
            buf[:] = 0
            if buf.any() or buf[::PAGE].any():
                wrong.append(f"round {rounds}: a device wrote after unmap returned")
    finally:
        stop.set()
        thread.join()
    assert not wrong and seen["fault"] and seen["done"], (wrong, seen)
    assert machine.is_valid()
