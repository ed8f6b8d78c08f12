# SPDX-License-Identifier: Apache-2.0
"""Files as memory: memfds, dma-bufs of the machine, and passing a context to another process."""

from __future__ import annotations

import gc
import mmap
import os
import tempfile

import numpy as np
import pytest

import iommufd_fast as iof
from iommufd_fast import uapi

PAGE = 4096


@pytest.fixture(params=["va", "synthetic"])
def ctx(request):
    with iof.Machine("intel", groups=[1], addresses=request.param) as m, m.open() as c:
        yield c


@pytest.fixture
def ioas(ctx):
    return ctx.ioas()


@pytest.fixture
def dev(ctx, ioas):
    made = ctx.bind(0)
    made.attach(ioas)
    return made


@pytest.fixture
def memfd():
    fd = os.memfd_create("test")
    os.ftruncate(fd, 8 * PAGE)
    yield fd
    os.close(fd)


def test_devices_reach_the_file(ctx, ioas, dev, memfd):
    with ioas.map_file(memfd) as m:
        assert (m.length, m.offset, m.address, m.memory, m.access) == (8 * PAGE, 0, None, None, "rw")
        dev.dma_write(m.iova + PAGE - 2, b"span")
        assert os.pread(memfd, 4, PAGE - 2) == b"span"
        os.pwrite(memfd, b"back", 5 * PAGE)
        assert dev.dma_read(m.iova + 5 * PAGE, 4) == b"back"
        assert list(ioas.mappings()) == [iof.MappingInfo(m.iova, m.iova + 8 * PAGE - 1, 0, "rw", "file")]
        assert "file" in repr(m) and not m.stale and not m.closed
        assert ctx.machine.is_valid()
    assert m.closed and list(ioas.mappings()) == []
    with pytest.raises(iof.DmaFault):
        dev.dma_read(m.iova, 1)


def test_objects_with_a_descriptor_and_parts_of_a_file(ioas, dev):
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.truncate(4 * PAGE)
        with ioas.map_file(file, offset=PAGE + 100, length=200, access="r", iova=0x700064) as m:
            assert (m.iova, m.length, m.offset, m.access) == (0x700064, 200, PAGE + 100, "r")
            assert m.range == (0x700000, 0x700FFF)
            os.pwrite(file.fileno(), b"here", PAGE + 100)
            assert dev.dma_read(m.iova, 4) == b"here"
            with pytest.raises(iof.DmaFault) as e:
                dev.dma_write(m.iova, b"x")
            assert e.value.reason == "denied"
        with ioas.map_file(file, offset=3 * PAGE) as m:
            assert m.length == PAGE


def test_the_descriptor_may_be_closed(ioas, dev):
    fd = os.memfd_create("gone")
    os.ftruncate(fd, PAGE)
    with mmap.mmap(fd, PAGE) as view, ioas.map_file(fd) as m:
        os.close(fd)
        dev.dma_write(m.iova, b"still there")
        assert view[:11] == b"still there"


def test_unmapped_by_other_means(ioas, memfd):
    m = ioas.map_file(memfd, iova=0x100000)
    ioas.unmap(0x100000, 8 * PAGE)
    assert m.stale and m.closed
    with pytest.raises(iof.NotFound):
        m.unmap()
    m = ioas.map_file(memfd, iova=0x100000)
    with ioas.map_file(memfd, iova=0x200000) as other:
        ioas.unmap(0x100000, 8 * PAGE)
        assert m.stale and not other.stale


def test_a_forgotten_mapping_warns_and_goes(ioas, memfd):
    with pytest.warns(ResourceWarning, match="file"):
        ioas.map_file(memfd)
        gc.collect()
    assert ioas.stats().mappings == 0


def test_copies_of_files(ctx, ioas, dev, memfd):
    other = ctx.ioas()
    with ioas.map_file(memfd, offset=PAGE) as m, ioas.copy_to(other, m.iova + PAGE, 2 * PAGE) as copy:
        assert copy.offset == 2 * PAGE and copy.address is None and not copy.stale
        m.close()
        dev.attach(other)
        dev.dma_write(copy.iova, b"copy")
        assert os.pread(memfd, 4, 2 * PAGE) == b"copy"
        dev.attach(ioas)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"offset": 8 * PAGE}, "not inside the file"),
        ({"length": 0}, "at least 1"),
        ({"offset": -1}, "offset"),
        ({"offset": 100, "length": 5, "iova": 0x1000}, "for example 0x1064"),
        ({"access": "x"}, "access must be"),
        ({"offset": 2**64 - 1, "length": 2}, "wraps"),
        ({"offset": 1, "length": 2**64 - 1}, "wraps"),
    ],
)
def test_wrong_arguments(ioas, memfd, arguments, error):
    before = ioas.context.digest()
    with pytest.raises(ValueError, match=error):
        ioas.map_file(memfd, **arguments)
    with pytest.raises(TypeError):
        ioas.map_file(1.5, 0, 10)
    assert ioas.context.digest() == before


def test_what_the_engine_refuses(ioas, dev, memfd):
    with pytest.raises(iof.IommufdError, match="not open") as e:
        ioas.map_file(987654, length=PAGE)
    assert e.value.errno == 9
    with tempfile.TemporaryFile(dir=os.path.dirname(__file__)) as plain:
        plain.truncate(PAGE)
        if os.fstatvfs(plain.fileno()).f_fsid != os.statvfs("/dev/shm").f_fsid:
            with pytest.raises(iof.Invalid, match="shared memory"):
                ioas.map_file(plain)
    with pytest.raises(iof.Invalid, match="inside its size"):
        ioas.map_file(memfd, length=9 * PAGE)
    with ioas.map_file(memfd, iova=0x100000), pytest.raises(iof.RangeExists, match="live mapping"):
        ioas.map_file(memfd, iova=0x101000)
    assert ioas.stats().mappings == 0


# -- dma-bufs ---------------------------------------------------------------------------------------------------------


def test_dmabuf(ctx, ioas, dev):
    with ctx.machine.dmabuf(PAGE + 1) as buf, mmap.mmap(buf.fileno(), 2 * PAGE) as view:
        assert buf.size == 2 * PAGE and buf.imports == 0
        with ioas.map_file(buf) as m:
            assert m.length == 2 * PAGE and buf.imports == 1
            dev.dma_write(m.iova + PAGE, b"device memory")
            assert view[PAGE : PAGE + 13] == b"device memory"
            with ctx.access(ioas) as access:
                for call in (lambda: access.read(m.iova, 1), lambda: access.pin(m.iova, PAGE)):
                    with pytest.raises(iof.Invalid, match="dma-buf"):
                        call()
        assert buf.imports == 0


def test_a_revoked_dmabuf_is_a_hole(ctx, ioas, dev):
    with ctx.machine.dmabuf(PAGE) as buf:
        with ioas.map_file(buf) as m:
            dev.dma_write(m.iova, b"x")
            buf.revoke()
            with pytest.raises(iof.DmaFault):
                dev.dma_read(m.iova, 1)
            with pytest.raises(iof.NoDevice, match="revoked"):
                ioas.map_file(buf)
            assert not m.stale  # the IOVA is taken still
            buf.restore()
            with pytest.raises(iof.DmaFault):
                dev.dma_read(m.iova, 1)
        with ioas.map_file(buf) as m:
            assert dev.dma_read(m.iova, 1) == b"x"
        # Restoring what was not revoked ends imports, too.
        with ioas.map_file(buf) as m:
            buf.restore()
            with pytest.raises(iof.DmaFault):
                dev.dma_read(m.iova, 1)
    assert buf.closed
    with pytest.raises(ValueError, match="closed"):
        buf.revoke()
    with pytest.raises(iof.Invalid):
        ctx.machine.dmabuf(0)
    with pytest.raises(TypeError, match="made by"):
        iof.DmaBuf()


# -- processes --------------------------------------------------------------------------------------------------------


def test_change_process(ctx, ioas, memfd):
    ctx.change_process()
    with ioas.map_file(memfd):
        ctx.change_process()
        ioas.change_process()
        before = ctx.digest()
        with ioas.map(np.zeros(100, np.uint8)), pytest.raises(iof.Invalid, match="other than files") as e:
            ctx.change_process()
        assert e.value.errno == 22 and ctx.digest() == before
    assert ctx.machine.is_valid()


def test_change_process_through_the_raw_door(ctx):
    cmd = np.zeros((), uapi.IOAS_CHANGE_PROCESS)
    cmd["size"] = cmd.itemsize
    assert ctx.ioctl(uapi.Command.IOAS_CHANGE_PROCESS, cmd) == 0
    cmd["reserved"] = 1
    with pytest.raises(iof.NotSupported):
        ctx.ioctl(uapi.Command.IOAS_CHANGE_PROCESS, cmd)
