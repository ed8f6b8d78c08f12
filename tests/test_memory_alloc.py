# SPDX-License-Identifier: Apache-2.0
"""Arrays in DMA memory, scatter lists, and buffers of other libraries, on every provider."""

from __future__ import annotations

import gc
import mmap
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from providers import PROVIDERS

import iommufd_fast as iof

PAGE = 4096
pytestmark = pytest.mark.filterwarnings("ignore::iommufd_fast.PageSizeWarning")


@pytest.fixture(params=PROVIDERS)
def world(request):
    with PROVIDERS[request.param]() as made:
        yield made


# -- alloc ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "dtype"), [(100, "u1"), ((3, 5), "<f8"), ((2, 3, 4), "complex64"), (1, "S5")])
def test_an_array_that_devices_reach(world, shape, dtype):
    a = world.ioas.alloc(shape, dtype)
    assert isinstance(a, iof.DmaArray) and a.shape == np.empty(shape).shape and a.dtype == np.dtype(dtype)
    assert not np.asarray(a).view(np.ndarray).tobytes().strip(b"\0")
    world.write(a.iova + a.nbytes - 1, b"\x07")
    assert bytes(a.data.cast("B"))[-1] == 7


def test_slices_know_their_iova(world):
    a = world.ioas.alloc((4, 8), "u4")
    assert a[2].iova == a.iova + 64 and a[1:3].iova == a.iova + 32 and a[3, 4:6].iova == a.iova + 112
    assert a.T.iova == a.iova and a.view("u1").iova == a.iova and a.reshape(-1)[5:].iova == a.iova + 20
    for sliced in (a[:, 1], a[::2], a[0, ::-1]):
        with pytest.raises(ValueError, match="not contiguous"):
            _ = sliced.iova


def test_results_are_plain_arrays(world):
    a = world.ioas.alloc(8, "f8")
    assert type(a + 1) is np.ndarray and type(np.sqrt(a)) is np.ndarray
    assert isinstance(a.sum(), float) and not isinstance(a.sum(), np.ndarray)
    a += 2
    a[:] = a * 2
    assert isinstance(a, iof.DmaArray) and a.iova and float(a[0]) == 4
    with pytest.raises(ValueError, match="copy"):
        _ = a.copy().iova
    with pytest.raises(ValueError, match="not in DMA memory"):
        _ = np.zeros(4).view(iof.DmaArray).iova


def test_freed_with_the_last_view(world):
    a = world.ioas.alloc(1 << 16)
    iova = a.iova
    row, view = a[100:200], memoryview(a)[5:]
    del a
    gc.collect()
    world.write(iova + 150, b"!")
    assert row[50] == ord("!") and view[145] == ord("!")
    del view
    assert world.ioas.stats().mappings == 1
    del row
    gc.collect()
    assert world.ioas.stats().mappings == 0
    with pytest.raises(iof.DmaFault):
        world.write(iova, b"!")


def test_memory_outlives_its_space(world):
    a = world.ioas.alloc(PAGE)
    a[:] = 3
    assert a.memory.iova == a.iova and a.memory.mapping.memory is None
    world.dev.detach()
    world.ioas.close()
    assert int(a.sum()) == 3 * PAGE
    with pytest.raises(ValueError, match="not mapped"):
        _ = a.iova
    with pytest.raises(ValueError, match="destroyed"):
        world.ioas.alloc(1)


def test_fixed_place_and_access(world):
    a = world.ioas.alloc(PAGE, iova=0x10000000, access="r")
    assert a.iova == 0x10000000 and a.memory.mapping.access == "r"
    with pytest.raises(iof.DmaFault):
        world.write(a.iova, b"x")
    with pytest.raises(iof.RangeExists):
        world.ioas.alloc(PAGE, iova=0x10000000)
    assert world.ioas.stats().mappings == 1


def test_shared_memory_has_a_descriptor(world):
    a = world.ioas.alloc(PAGE, shared=True)
    with mmap.mmap(a.memory.fd, PAGE) as other, world.ioas.map_file(a.memory.fd) as m:
        other[9] = 44
        assert a[9] == 44
        world.write(m.iova + 9, b"\x2d")
        assert a[9] == 45
    assert world.ioas.alloc(1).memory.fd is None


def test_what_kind_of_pages(world):
    assert world.ioas.alloc(1).memory.page == "4K"
    assert world.ioas.alloc(4 << 20, page="4K").memory.huge_bytes == 0
    a = world.ioas.alloc(4 << 20)
    assert a.memory.page in ("4K", "thp", "2M") and (a.memory.page == "4K") == (a.memory.huge_bytes == 0)
    for page in ("thp", "2M", "1G"):
        try:
            assert world.ioas.alloc(2 << 20, page=page).memory.page == page
        except iof.IommufdError as error:
            assert "nr_hugepages" in str(error) or "transparent" in str(error)


def test_a_fallback_is_told(world):
    free = int(Path("/proc/sys/vm/nr_hugepages").read_text())
    if free:
        pytest.skip("hugetlb pages are reserved here")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        a = world.ioas.alloc(64 << 20)
    texts = [str(w.message) for w in told if w.category is iof.PageSizeWarning]
    if a.memory.huge_bytes == a.nbytes:
        assert not texts and a.memory.missed == "2M"
    else:
        assert len(texts) == 1 and "vm.nr_hugepages=32" in texts[0] and told[0].filename == __file__


def test_numa(world):
    a = world.ioas.alloc(PAGE, numa=0)
    assert a.nbytes == PAGE
    with pytest.raises(iof.Invalid, match="no such NUMA node"):
        world.ioas.alloc(PAGE, numa=900)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"shape": 0}, ValueError),
        ({"shape": (3, -1)}, ValueError),
        ({"dtype": object}, TypeError),
        ({"dtype": "V0"}, ValueError),
        ({"page": "3M"}, ValueError),
        ({"numa": -1}, ValueError),
        ({"numa": 1 << 20}, ValueError),
        ({"access": "x"}, ValueError),
        ({"shape": 1 << 62}, (OSError, ValueError, OverflowError)),
        ({"shape": 1.5}, TypeError),
    ],
)
def test_wrong_arguments(world, wrong, error):
    with pytest.raises(error):
        world.ioas.alloc(**({"shape": 1} | wrong))
    assert world.ioas.stats().mappings == 0


# -- scatter lists ----------------------------------------------------------------------------------------------------


def pages(n):
    raw = np.zeros((n + 1) * PAGE, np.uint8)
    skip = -raw.ctypes.data % PAGE
    return raw[skip : skip + n * PAGE]


def test_many_buffers_one_range(world):
    field = pages(16)
    lot = [field[100:PAGE], field[8 * PAGE : 10 * PAGE], field[4 * PAGE : 4 * PAGE + 10]]
    m = world.ioas.map_sg(lot)
    assert m.length == sum(map(len, lot)) and m.iova % PAGE == 100
    text = bytes(range(256)) * 12
    world.write(m.iova + PAGE - 100 - 256, text)
    assert field[PAGE - 256 : PAGE].tobytes() + field[8 * PAGE : 8 * PAGE + len(text) - 256].tobytes() == text
    assert world.read(m.iova + len(lot[0]) + len(lot[1]), 10) == field[4 * PAGE : 4 * PAGE + 10].tobytes()
    assert world.ioas.stats().mappings == 3 and not m.stale and m.translate(0) == lot[0].ctypes.data
    m.close()
    assert world.ioas.stats().mappings == 0 and m.closed


def test_scatter_list_holds_its_memory(world):
    b = bytearray(PAGE)
    with world.ioas.map_sg([b]) as m:
        with pytest.raises(BufferError):
            b.extend(b"more")
        assert m.iova
    b.extend(b"more")


def test_scatter_list_is_all_or_nothing(world):
    field = pages(8)
    with pytest.raises(iof.BadAddress) as caught:
        world.ioas.map_sg([field[:PAGE], (PAGE, PAGE), field[PAGE : 2 * PAGE]])
    assert caught.value.index == 1 and world.ioas.stats().mappings == 0
    for wrong, match in [
        ([], "empty"),
        ([field[:PAGE], field[PAGE + 1 : 3 * PAGE]], "entry 1 begins"),
        ([field[: PAGE - 1], field[PAGE : 2 * PAGE]], "entry 0 ends"),
        ([field[:0]], "empty"),
        ([(1, 2, 3)], "tuple"),
        ([(2**64 - 5, 100)], "wraps"),
    ]:
        with pytest.raises((ValueError, TypeError), match=match):
            world.ioas.map_sg(wrong)
    with world.ioas.map_sg([field[: 2 * PAGE]], iova=0x40000000) as m:
        assert m.iova == 0x40000000
        with pytest.raises(iof.RangeExists):
            world.ioas.map_sg([field[2 * PAGE : 3 * PAGE]], iova=0x40001000)
    with pytest.raises(ValueError, match="offset in its page"):
        world.ioas.map_sg([field], iova=0x40000001)


def test_scatter_list_goes_stale(world):
    field = pages(4)
    m = world.ioas.map_sg([field[:PAGE], field[2 * PAGE : 3 * PAGE]])
    world.ioas.unmap_all()
    assert m.stale and m.closed
    with pytest.raises(iof.NotFound):
        m.unmap()


# -- buffers of others ------------------------------------------------------------------------------------------------


class Tensor:
    """Speaks DLPack and nothing else. `how`: what its capsule is asked for with, whatever the caller says."""

    def __init__(self, array, device=(1, 0), how=None):
        self.array, self.device, self.how, self.alive = array, device, how, True

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **asked):
        if self.how is not None:
            if asked:
                raise TypeError("an old producer")
            return self.array.__dlpack__()
        return self.array.__dlpack__(**asked)


@pytest.mark.parametrize("how", [None, "old"])
def test_dlpack_tensors(world, how):
    array = np.zeros((8, 512), "f8")
    with world.ioas.map(Tensor(array, how=how)) as m:
        assert (m.address, m.length) == (array.ctypes.data, array.nbytes)
        world.write(m.iova + 8, np.float64(2.5).tobytes())
        assert array[0, 1] == 2.5
    with world.ioas.map_sg([Tensor(array.T)]) as m, world.ioas.map_cache() as cache, cache.get(Tensor(array)) as use:
        assert m.length == use.length == array.nbytes


def test_dlpack_memory_is_held_and_let_go(world):
    import weakref

    array = np.zeros(PAGE, np.uint8)
    gone = weakref.ref(array)
    m = world.ioas.map(Tensor(array))
    del array
    gc.collect()
    assert gone() is not None
    m.close()
    gc.collect()
    assert gone() is None


def test_dlpack_that_cannot_be_mapped(world):
    array = np.zeros((64, 64))
    with pytest.raises(TypeError, match="DLPack type 2"):
        world.ioas.map(Tensor(array, device=(2, 0)))
    with pytest.raises(ValueError, match="not contiguous"):
        world.ioas.map(Tensor(array[:, ::2]))
    readonly = np.zeros(64)
    readonly.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match=r"read-only|readonly"):
        world.ioas.map(Tensor(readonly))
    with world.ioas.map(Tensor(readonly), access="r") as m:
        assert m.access == "r"
    with pytest.raises(TypeError, match="neither a buffer nor an address"):
        world.ioas.map(object())
    assert world.ioas.stats().mappings == 0


def test_files(world, tmp_path):
    mounts = Path("/proc/mounts").read_text().splitlines()
    folders = [Path("/dev/shm"), *(Path(line.split()[1]) for line in mounts if " hugetlbfs " in line)]
    for folder in folders:
        size = 2 << 20 if "huge" in str(folder) else PAGE
        name = folder / f"iommufd_fast-{os.getpid()}"
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except OSError:
            continue  # not for us
        try:
            os.ftruncate(fd, size)
            with mmap.mmap(fd, size) as seen, world.ioas.map_file(fd) as m:
                seen[5] = 9
                assert world.read(m.iova + 5, 1) == b"\x09"
        except OSError as error:
            assert "huge" in str(folder), error  # no huge pages are reserved
        finally:
            os.close(fd)
            name.unlink()


def test_udmabuf(world):
    """A real dma-buf, of /dev/udmabuf."""
    import fcntl
    import struct

    if not Path("/dev/udmabuf").exists():
        pytest.skip("no /dev/udmabuf: modprobe udmabuf, or run it in the guest of tests/vm")
    memfd = os.memfd_create("udmabuf", os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, PAGE)
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with open("/dev/udmabuf", "rb") as control:
        fd = fcntl.ioctl(control, 0x40187542, struct.pack("IIQQ", memfd, 1, 0, PAGE))
    try:
        with world.ioas.map_file(fd, length=PAGE) as m:
            os.pwrite(memfd, b"udmabuf", 0)
            assert world.read(m.iova, 7) == b"udmabuf"
    except iof.NotSupported as error:
        assert "dma-buf of the system" in str(error)  # the engine has no kernel behind it to import them
    finally:
        os.close(fd)
        os.close(memfd)
