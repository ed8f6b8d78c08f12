# SPDX-License-Identifier: Apache-2.0
"""Memory for drivers on a real kernel: every byte goes through the edu device behind VT-d."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import struct
from pathlib import Path

import edu
import numpy as np
import pytest

import iommufd_fast as iof

PAGE = 4096
pytestmark = pytest.mark.filterwarnings("ignore::iommufd_fast.PageSizeWarning")


@pytest.fixture
def ctx():
    with iof.open("/dev/iommu") as c:
        yield c


@pytest.fixture
def dev(ctx):
    return edu.bind(ctx)


@pytest.fixture
def ioas(ctx, dev):
    space = ctx.ioas()
    space.allow([edu.REACH])
    dev.attach(space)
    return space


def copy(dev, source: int, target: int, n: int) -> None:
    """From IOVA to IOVA, through the device's own buffer."""
    edu.transfer(dev, source, edu.BUFFER, n, 0)
    edu.transfer(dev, edu.BUFFER, target, n, edu.TO_MEMORY)


def field(n: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, n * PAGE), np.uint8)


def test_alloc(dev, ioas):
    a = ioas.alloc((4, PAGE))
    a[1, :5] = list(b"hello")
    copy(dev, a[1].iova, a[3, 7:].iova, 5)
    assert a[3, 7:12].tobytes() == b"hello"
    iova = a.iova
    del a
    gc.collect()
    with pytest.raises(iof.NotFound):
        ioas.unmap(iova, 4 * PAGE)


def test_arena(dev, ioas):
    with ioas.arena(region=1 << 16, limit=1 << 18) as arena:
        one, two = arena.take(100, boundary=256), arena.take(PAGE, align=PAGE)
        memoryview(one)[:4] = b"ring"
        copy(dev, one.iova, two.iova, 4)
        assert bytes(memoryview(two)[:4]) == b"ring"
        many = [arena.take(1 << 15) for _ in range(4)]
        assert len(arena.memory) > 1
        for buf in (one, two, *many):
            buf.give()
        assert arena.is_valid()


def test_map_cache(dev, ioas):
    buf = field(4)
    with ioas.map_cache(max_entries=2) as cache:
        for i in range(8):
            with cache.get(buf[i % 4 * PAGE :][:100]) as use:
                buf[i % 4 * PAGE] = i
                copy(dev, use.iova, use.iova + 50, 1)
                assert buf[i % 4 * PAGE + 50] == i
        assert cache.stats().evicted >= 4 and cache.is_valid()
        assert cache.invalidate(buf) == 0 and cache.stats().entries == 0


def test_map_sg(dev, ioas):
    pages = field(6)
    with ioas.map_sg([pages[5 * PAGE :], pages[2 * PAGE : 3 * PAGE], pages[:10]]) as m:
        assert edu.REACH[0] <= m.iova <= edu.REACH[1]
        pages[6 * PAGE - 2 :], pages[2 * PAGE : 2 * PAGE + 2] = list(b"ab"), list(b"cd")
        copy(dev, m.iova + PAGE - 2, m.iova + 2 * PAGE, 4)
        assert pages[:4].tobytes() == b"abcd"
    with pytest.raises(iof.IommufdError) as caught:
        ioas.map_sg([pages[:PAGE], (PAGE, PAGE)])
    assert caught.value.index == 1


def test_memory_that_goes(dev, ioas):
    try:
        cache = ioas.map_cache(watch=True, keep=False)
    except iof.IommufdError as error:
        pytest.skip(f"this kernel has no userfaultfd: {error}")
    with cache:
        for i in range(4):
            memory = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            view = np.frombuffer(memory, np.uint8)
            view[0] = i + 1
            with cache.get(view) as use:
                copy(dev, use.iova, use.iova + 1, 1)
            assert view[1] == i + 1
            address = view.ctypes.data
            del view
            memory.close()
            with pytest.raises(iof.IommufdError):
                cache.get(address, PAGE)


def test_udmabuf(dev, ioas):
    """A dma-buf of the system."""
    if not Path("/dev/udmabuf").exists():
        pytest.skip("this kernel has no udmabuf")
    memfd = os.memfd_create("udmabuf", os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, PAGE)
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with open("/dev/udmabuf", "rb") as control:
        fd = fcntl.ioctl(control, 0x40187542, bytearray(struct.pack("IIQQ", memfd, 1, 0, PAGE)))
    try:
        try:
            m = ioas.map_file(fd, length=PAGE)
        except iof.IommufdError as error:
            pytest.skip(f"this kernel maps dma-bufs of its own kinds only: {error}")
        with m:
            os.pwrite(memfd, b"u", 0)
            copy(dev, m.iova, m.iova + 9, 1)
            assert os.pread(memfd, 1, 9) == b"u"
    finally:
        os.close(fd)
        os.close(memfd)
