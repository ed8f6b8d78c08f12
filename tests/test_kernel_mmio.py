# SPDX-License-Identifier: Apache-2.0
"""Registers: a memfd stands for a device's file, so that what was written can be looked at from outside."""

from __future__ import annotations

import os
import struct

import pytest

from iommufd_fast._core import kernelfile
from iommufd_fast._core.commands import ContextHandle, DeviceHandle
from iommufd_fast.kernel import DeviceRegion

SIZE = 0x4000
OFFSET = 0x3000  # of the region in the file


@pytest.fixture
def file():
    """(descriptor to look with, handle of the device)."""
    context, device = ContextHandle(), DeviceHandle()
    assert kernelfile.open_context(context, os.memfd_create("context"), "own") == 0
    fd = os.memfd_create("device")
    os.ftruncate(fd, OFFSET + SIZE)
    assert kernelfile.open_device(device, context, os.dup(fd), 5, "a memfd") == 0
    yield fd, device
    device.close()
    context.close()
    os.close(fd)


def region(device: DeviceHandle, flags: int = 7, start: int = 0, end: int = SIZE) -> DeviceRegion:
    made = DeviceRegion.__new__(DeviceRegion)
    assert made._begin(device, 2, flags, SIZE, OFFSET, start, end) == 0
    return made


@pytest.fixture(params=["mapped", "half", "file"])
def bar(request, file):
    made = region(file[1], end={"mapped": SIZE, "half": 0x1000, "file": 0}[request.param])
    yield made
    made.close()


@pytest.mark.parametrize("width", [8, 16, 32, 64])
@pytest.mark.parametrize("offset", [0, 0xFF8, 0x1000, SIZE - 8])
def test_each_width_is_that_wide_and_little_endian(file, bar, width, offset):
    os.pwrite(file[0], b"\xee" * SIZE, OFFSET)
    value = 0x8877665544332211 & ((1 << width) - 1)
    getattr(bar, f"write{width}")(offset, value)
    assert getattr(bar, f"read{width}")(offset) == value
    seen = os.pread(file[0], 16, OFFSET + offset)
    assert seen.startswith(struct.pack("<Q", value)[: width // 8]) and set(seen[width // 8 :]) <= {0xEE}
    bar.doorbell(offset, width)(1)
    assert getattr(bar, f"read{width}")(offset) == 1


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_bounds(bar, width):
    n = width // 8
    read, write = getattr(bar, f"read{width}"), getattr(bar, f"write{width}")
    for offset in (SIZE, SIZE - n + 1, 1 << 63, (1 << 64) - n, (1 << 64) - 1):
        with pytest.raises(ValueError, match="not inside"):
            read(offset)
        with pytest.raises(ValueError, match="not inside"):
            write(offset, 0)
        with pytest.raises(ValueError, match="not inside"):
            bar.doorbell(offset, width)
    if n > 1:
        with pytest.raises(ValueError, match=f"multiple of {n}"):
            read(1)
        with pytest.raises(ValueError, match=f"multiple of {n}"):
            write(n + 1, 0)
    for offset in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            read(offset)
    for value in (-1, 1 << width):
        with pytest.raises((OverflowError, ValueError)):
            write(0, value)
    with pytest.raises(TypeError):
        read("0")
    with pytest.raises((ValueError, OverflowError)):
        bar.doorbell(0, width)(1 << width)


def test_views(file):
    whole, half = region(file[1]), region(file[1], end=0x1000)
    with pytest.raises(BufferError, match="not mapped as a whole"):
        memoryview(half)
    with memoryview(whole) as view:
        view[5:8] = b"abc"
        assert os.pread(file[0], 3, OFFSET + 5) == b"abc" and whole.read8(5) == ord("a")
        whole.close()
        assert bytes(view[5:8]) == b"abc"  # the memory stays while somebody looks
        with pytest.raises(ValueError, match="closed"):
            whole.read8(5)
    readonly = region(file[1], flags=5)
    with memoryview(readonly) as view:
        assert view.readonly
    half.close()


def test_closed_and_forked(file):
    bar = region(file[1])
    pid = os.fork()
    if pid == 0:
        try:
            bar.read32(0)
        except RuntimeError as error:
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    bar.close()
    with pytest.raises(ValueError, match="closed"):
        bar.read32(0)


def test_a_short_file_is_an_error(file):
    bar = region(file[1], end=0)
    os.ftruncate(file[0], OFFSET + 4)
    assert bar.read32(0) == 0
    with pytest.raises(OSError, match="cannot read 8 bytes"):
        bar.read64(0)
