# SPDX-License-Identifier: Apache-2.0
"""Mapping: what it tells, what it keeps alive, and what becomes of it when memory is unmapped by other means."""

from __future__ import annotations

import gc
import mmap
import sys
import warnings
import weakref

import numpy as np
import pytest

import iommufd_fast as iof
from iommufd_fast import uapi

PAGE = mmap.PAGESIZE


@pytest.fixture
def machine():
    with iof.Machine("intel") as m:
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
    """A page-aligned array."""
    return np.frombuffer(mmap.mmap(-1, n * PAGE), np.uint8)


def test_what_a_mapping_tells(ioas):
    buf = pages(3)
    m = ioas.map(buf, access="r")
    assert (m.length, m.address, m.access, m.ioas) == (3 * PAGE, buf.ctypes.data, "r", ioas)
    assert m.range == (m.iova, m.iova + 3 * PAGE - 1) and len(m) == m.length
    assert m.memory is buf and not m.closed and not m.stale
    assert m.translate() == buf.ctypes.data and m.translate(PAGE + 5) == buf.ctypes.data + PAGE + 5
    assert f"{m.iova:#x}" in repr(m) and "live" in repr(m) and "ndarray" in repr(m)
    m.unmap()
    assert m.closed and not m.stale and m.memory is None and "closed" in repr(m)


@pytest.mark.parametrize("make", [bytearray, lambda n: np.zeros(n, np.uint8), lambda n: memoryview(bytearray(n))])
@pytest.mark.parametrize("size", [1, 100, PAGE, PAGE + 1, 5 * PAGE - 3, 1 << 20])
def test_all_pages_of_an_object_are_mapped(make, size, dev, ioas):
    buf = make(size)
    with ioas.map(buf) as m:
        assert m.iova % PAGE == m.address % PAGE and m.length == size
        start, last = m.range
        assert start % PAGE == 0 and (last + 1) % PAGE == 0 and start <= m.iova and m.iova + size - 1 <= last
        assert m.iova - start < PAGE and last - (m.iova + size - 1) < PAGE
        data = bytes(i % 251 for i in range(size))
        dev.dma_write(m.iova, data)
        assert bytes(buf) == data and dev.dma_read(m.iova, size) == data


def test_only_a_part(ioas):
    buf = pages(4)
    with ioas.map(buf, 2 * PAGE) as m:
        assert m.length == 2 * PAGE and ioas.stats().bytes_mapped == 2 * PAGE


def test_fixed_iova_keeps_the_offset_in_the_page(ioas):
    buf = pages(2)[100:300]
    with ioas.map(buf, iova=0x40000 + buf.ctypes.data % PAGE) as m:
        assert m.iova == 0x40064 and m.range == (0x40000, 0x40FFF)
    with pytest.raises(ValueError, match="0x40064"):
        ioas.map(buf, iova=0x40000)


def test_an_address(dev, ioas):
    buf = pages(2)
    with ioas.map(buf.ctypes.data, 2 * PAGE, iova=0x10000) as m:
        dev.dma_write(0x10000 + PAGE, b"there")
        assert bytes(buf[PAGE : PAGE + 5]) == b"there" and m.memory is None
    with ioas.map(np.uint64(buf.ctypes.data), PAGE) as m:
        assert m.address == buf.ctypes.data


def test_every_kind_of_access(dev, ioas):
    buf = pages(1)
    for access, reads, writes in (("r", True, False), ("w", False, True), ("rw", True, True)):
        with ioas.map(buf, access=access) as m:
            for allowed, call in (
                (reads, lambda: dev.dma_read(m.iova, 4)),
                (writes, lambda: dev.dma_write(m.iova, b"x")),
            ):
                if allowed:
                    call()
                else:
                    with pytest.raises(iof.DmaFault) as e:
                        call()
                    assert e.value.reason == "denied" and e.value.iova == m.iova


def test_read_only_memory(dev, ioas):
    data = bytes(range(256)) * 16
    with pytest.raises(ValueError, match=r"read-only.*access='r'"):
        ioas.map(data)
    with ioas.map(data, access="r") as m:
        assert dev.dma_read(m.iova, 4096) == data


# -- keeping memory alive ---------------------------------------------------------------------------------------------


def test_memory_is_kept_until_unmap(ioas):
    class Array(np.ndarray):
        pass

    for make in (lambda: np.zeros(PAGE, np.uint8), lambda: np.zeros(PAGE, np.uint8).view(Array)):
        buf = make()
        m, alive = ioas.map(buf), weakref.ref(buf)
        del buf
        gc.collect()
        assert alive() is not None
        m.close()
        gc.collect()
        assert alive() is None


def test_a_bytearray_cannot_grow_while_mapped(ioas):
    buf = bytearray(PAGE)
    m = ioas.map(buf)
    with pytest.raises(BufferError):
        buf.extend(b"more")
    m.close()
    buf.extend(b"more")


def test_an_ndarray_cannot_be_resized_while_mapped(ioas):
    buf = np.zeros(PAGE, np.uint8)
    m = ioas.map(buf)
    with pytest.raises(ValueError, match="resize"):
        buf.resize(2 * PAGE)
    m.close()


def test_a_refused_map_keeps_nothing(ioas):
    buf = bytearray(PAGE)
    references = sys.getrefcount(buf)
    for arguments in ({"iova": 1 << 60}, {"iova": "1"}, {"length": PAGE + 1}, {"length": 0}, {"access": "x"}):
        with pytest.raises((ValueError, TypeError, iof.IommufdError)):
            ioas.map(buf, **arguments)
    assert sys.getrefcount(buf) == references
    buf.extend(b"free")
    assert ioas.stats().mappings == 0


def test_many_handles_and_no_reference_is_lost(ioas):
    buf = np.zeros(PAGE, np.uint8)
    references = sys.getrefcount(buf), sys.getrefcount(ioas)
    for _ in range(3):
        held = [ioas.map(buf) for _ in range(500)]
        assert ioas.live_handles == 500
        for m in held[::2] + held[1::2]:
            m.close()
        del held, m
    assert (sys.getrefcount(buf), sys.getrefcount(ioas)) == references and ioas.live_handles == 0


def test_a_handle_in_a_cycle_with_its_memory_is_collected(ioas):
    class Array(np.ndarray):
        pass

    buf = np.zeros(PAGE, np.uint8).view(Array)
    buf.mapping = ioas.map(buf)
    alive = weakref.ref(buf)
    del buf
    with pytest.warns(ResourceWarning, match="unclosed <Mapping"):
        gc.collect()
    assert alive() is None and ioas.stats().mappings == 0


# -- forgotten handles ------------------------------------------------------------------------------------------------


def test_a_forgotten_mapping_warns_and_is_unmapped(ioas):
    iof.track_origins(True)
    try:
        m = ioas.map(bytearray(PAGE))
    finally:
        iof.track_origins(False)
    with pytest.warns(ResourceWarning, match=r"unclosed <Mapping live.*made at .*test_control_mapping\.py:\d+"):
        del m
    assert ioas.stats().mappings == 0
    m = ioas.map(bytearray(PAGE))
    with pytest.warns(ResourceWarning, match="track_origins"):
        del m


def test_a_forgotten_context_warns_and_closes(machine):
    def forget():
        ctx = machine.open()
        space = ctx.ioas()
        ctx.bind(0).attach(space)
        space.map(np.zeros(PAGE, np.uint8), iova=None).close()

    forget()
    with pytest.warns(ResourceWarning, match="unclosed <Iommufd"):
        gc.collect()
    assert not machine.devices[0].open and machine.is_valid()


def test_a_forgotten_copy_of_several_warns_once(ctx, ioas):
    buf = pages(2)
    with ioas.map(buf[:PAGE], iova=0x1000), ioas.map(buf[PAGE:], iova=0x2000):
        copy = ioas.copy_to(ioas, 0x1000, 2 * PAGE)
        with pytest.warns(ResourceWarning) as seen:
            del copy
        assert len(seen) == 1 and ioas.stats().mappings == 2


def test_nothing_warns_when_everything_was_closed(machine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with machine.open() as ctx:
            space = ctx.ioas()
            ctx.bind(0).attach(space)
            kept = space.map(bytearray(PAGE))
        del ctx, space, kept
        gc.collect()


# -- unmapped by other means ------------------------------------------------------------------------------------------


def raw_unmap(ioas, m):
    command = np.zeros((), uapi.IOAS_UNMAP)
    command["size"], command["ioas_id"] = command.itemsize, ioas.id
    command["iova"], command["length"] = m.iova, m.length
    assert ioas.context.ioctl(uapi.Command.IOAS_UNMAP, command) == 0 and command["length"] == m.length


MEANS = {
    "range": lambda ioas, m: ioas.unmap(m.iova, m.length),
    "all": lambda ioas, m: ioas.unmap_all(),
    "batch": lambda ioas, m: ioas.unmap_many([m.iova], [m.length]),
    "raw": raw_unmap,
    "detach and destroy": lambda ioas, m: (ioas.context.devices[0].detach(), ioas.close()),
    "destroy": lambda ioas, m: (ioas.context.devices[0].detach(), ioas.context.destroy(ioas.id)),
    "context": lambda ioas, m: ioas.context.close(),
}


@pytest.mark.parametrize("means", MEANS)
def test_stale(means, ioas):
    buf = bytearray(mmap.PAGESIZE * 2)
    base = np.frombuffer(buf, np.uint8).ctypes.data
    part = memoryview(buf)[-base % PAGE :][:PAGE]
    m, again = ioas.map(part), ioas.map(part)
    m.close()
    MEANS[means](ioas, again)
    assert again.stale and again.closed and "stale" in repr(again) and not m.stale
    part.release()
    buf.extend(b"x")  # nothing holds it
    with pytest.raises(iof.NotFound, match="by other means"):
        again.unmap()
    with pytest.raises(ValueError, match="stale"), again:
        pass
    again.close()
    again.close()
    again.unmap()
    assert not again.stale and again.closed


def test_stale_is_not_fooled_by_a_new_mapping_in_the_same_place(ioas):
    buf = pages(1)
    first = ioas.map(buf)
    ioas.unmap(*(first.iova, PAGE))
    second = ioas.map(buf, iova=first.iova)
    assert first.stale and not second.stale
    first.close()
    assert ioas.stats().mappings == 1
    second.unmap()


def test_only_what_was_unmapped_is_stale(ioas):
    buf = pages(8)
    held = [ioas.map(buf[i * PAGE : (i + 1) * PAGE], iova=0x100000 + i * PAGE) for i in range(8)]
    assert ioas.unmap(0x102000, 3 * PAGE) == 3 * PAGE
    assert [m.stale for m in held] == [False, False, True, True, True, False, False, False]
    errors = ioas.unmap_many([0x100000, 0x102000, 0x107000], PAGE)
    assert errors.tolist() == [0, 2, 0]
    assert [m.stale for m in held] == [True, False, True, True, True, False, False, True]
    with pytest.raises(iof.NotFound):
        ioas.unmap(0x105000, PAGE + PAGE // 2)  # 0x105000 goes, then a mapping sticks out
    assert held[5].stale and not held[6].stale
    for m in held:
        m.close()
    assert ioas.stats().mappings == 0


# -- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_keeps_the_memory_alive(ctx, dev, ioas):
    other = ctx.ioas()
    buf = pages(4)
    alive = weakref.ref(buf)
    m = ioas.map(buf)
    copy = ioas.copy_to(other, m.iova + PAGE, 2 * PAGE, access="r")
    assert (copy.length, copy.access, copy.address) == (2 * PAGE, "r", buf.ctypes.data + PAGE)
    buf[PAGE : PAGE + 4] = list(b"copy")
    del buf
    m.close()
    gc.collect()
    assert alive() is not None and other.stats().copies == 1
    dev.attach(other)
    assert dev.dma_read(copy.iova, 4) == b"copy"
    copy.close()
    gc.collect()
    assert alive() is None


def test_a_copy_of_several_mappings_goes_as_one(ctx, ioas):
    buf = pages(4)
    held = [ioas.map(buf[i * PAGE : (i + 1) * PAGE], iova=0x100000 + i * PAGE) for i in range(4)]
    other = ctx.ioas()
    copy = ioas.copy_to(other, 0x101000, 2 * PAGE, dst_iova=0x9000)
    assert copy.iova == 0x9000 and other.stats().mappings == 2 and not copy.stale
    assert other.unmap(0x9000, PAGE) == PAGE  # one half by other means
    assert copy.stale and not copy.closed and "stale" in repr(copy) and other.stats().mappings == 1
    new = ioas.copy_to(other, 0x100000, PAGE, dst_iova=0x9000)  # in its place
    copy.close()
    assert not new.stale and other.stats().mappings == 1
    new.close()
    copy = ioas.copy_to(other, 0x101000, 2 * PAGE)
    other.unmap(copy.iova, PAGE)
    with pytest.raises(iof.NotFound, match="by other means"):
        copy.unmap()
    assert copy.closed and other.stats().mappings == 0
    copy = ioas.copy_to(other, 0x100000, 4 * PAGE)
    copy.unmap()
    assert other.stats().mappings == 0
    with pytest.raises(iof.NotFound, match="not wholly mapped"):
        ioas.copy_to(other, 0x103000, 2 * PAGE)
    for m in held:
        m.close()
