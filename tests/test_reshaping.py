# SPDX-License-Identifier: Apache-2.0
"""Large maps over threads, other memory in one step, entries counted."""

from __future__ import annotations

import errno
import mmap
import resource

import numpy as np
import pytest
from providers import PROVIDERS

import iommufd_fast as iof

PAGE = 4096


@pytest.fixture
def rig():
    with iof.Machine() as machine, machine.open() as context:
        ioas = context.ioas()
        with context.bind(iof.SoftDevice(machine=machine)) as device:
            device.attach(ioas)
            yield ioas, device
        assert machine.is_valid()


@pytest.fixture(params=PROVIDERS)
def world(request):
    with PROVIDERS[request.param]() as made:
        yield made


def test_parallel(world):
    ioas = world.ioas
    memory = np.arange(24 << 18, dtype=np.uint32)
    told = []
    with ioas.map_parallel(memory, threads=2, progress=lambda done, total: told.append((done, total))) as mapping:
        assert mapping.length == memory.nbytes and mapping.address == memory.ctypes.data
        assert world.read(mapping.iova + 4 * 5_000_000, 4) == (5_000_000).to_bytes(4, "little")
        assert told[-1][0] == told[-1][1] == mapping.range[1] - mapping.range[0] + 1
        assert ioas.iova_of(memory[100:200]) == mapping.iova + 400
        assert ioas.stats().mappings > 1
    assert ioas.stats().mappings == 0


def test_parallel_at_a_place_and_small(rig):
    ioas, _ = rig
    memory = mmap.mmap(-1, PAGE)
    with ioas.map_parallel(memory, iova=1 << 40) as mapping:
        assert mapping.iova == 1 << 40
        with pytest.raises(iof.RangeExists):
            ioas.map_parallel(memory, iova=1 << 40)
    with pytest.raises(ValueError, match="offset in its page"):
        ioas.map_parallel(memory, iova=(1 << 40) + 5)
    with pytest.raises(ValueError, match="cannot map 0 bytes"):
        ioas.map_parallel(bytearray())
    with pytest.raises(ValueError, match="threads"):
        ioas.map_parallel(memory, threads=5000)


def test_parallel_is_cancelled(rig):
    ioas, _ = rig
    memory = mmap.mmap(-1, 16 << 20)
    with pytest.raises(iof.IommufdError, match="nothing is mapped") as caught:
        ioas.map_parallel(memory, threads=2, progress=lambda done, total: False)
    assert caught.value.errno == errno.ECANCELED

    def broken(done, total):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        ioas.map_parallel(memory, threads=1, progress=broken)
    assert ioas.stats().mappings == 0


def test_replace(rig):
    ioas, device = rig
    old, new = mmap.mmap(-1, 4 * PAGE), mmap.mmap(-1, 4 * PAGE)
    old[:], new[:] = b"o" * len(old), b"n" * len(new)
    mapping = ioas.map(old)
    assert device.dma_read(mapping.iova + PAGE, 1) == b"o"
    other = ioas.replace_range(mapping, new)
    assert mapping.closed and other.iova == mapping.iova
    assert device.dma_read(other.iova + PAGE, 1) == b"n"
    old.close()  # nothing keeps it any more
    with pytest.raises(ValueError, match="not a live mapping"):
        ioas.replace_range(mapping, new)
    with pytest.raises(ValueError, match="is more than"):
        ioas.replace_range(other, bytearray(PAGE))
    other.unmap()
    assert ioas.stats().mappings == 0


def test_replace_says_what_a_provider_cannot(rig, monkeypatch):
    from iommufd_fast import reshaping

    ioas, device = rig
    old, new = mmap.mmap(-1, PAGE), mmap.mmap(-1, PAGE)
    old[:], new[:] = b"o" * PAGE, b"n" * PAGE
    mapping = ioas.map(old)
    monkeypatch.setattr(reshaping.reshape, "replace", lambda *args: -errno.EOPNOTSUPP)
    with pytest.raises(iof.NotSupported, match="allow_gap=True"):
        ioas.replace_range(mapping, new)
    assert device.dma_read(mapping.iova, 1) == b"o"
    other = ioas.replace_range(mapping, new, allow_gap=True)
    assert device.dma_read(other.iova, 1) == b"n"
    other.unmap()


def test_a_kernel_replaces_in_two_steps():
    with PROVIDERS["kernel"]() as world:
        old, new = mmap.mmap(-1, PAGE), mmap.mmap(-1, PAGE)
        old[:], new[:] = b"o" * PAGE, b"n" * PAGE
        mapping = world.ioas.map(old)
        with pytest.raises(iof.NotSupported, match=r"can only unmap and map again; allow_gap=True"):
            world.ioas.replace_range(mapping, new)
        assert world.read(mapping.iova, 1) == b"o" and not mapping.closed
        other = world.ioas.replace_range(mapping, new, allow_gap=True)
        assert other.iova == mapping.iova and world.read(other.iova, 1) == b"n" and mapping.closed
        with pytest.raises(iof.BadAddress) as caught:  # what was there is there again
            world.ioas.replace_range(other, 16 * PAGE, allow_gap=True)
        assert other.closed and world.read(caught.value.mapping.iova, 1) == b"n"
        caught.value.mapping.unmap()


def test_entries(world):
    ioas = world.ioas
    memory = mmap.mmap(-1, 8 * PAGE)
    base = np.frombuffer(memory, np.uint8).ctypes.data
    ioas.map_many(base + np.arange(0, 8 * PAGE, PAGE), PAGE, iovas=(1 << 40) + np.arange(0, 8 * PAGE, PAGE))
    found = ioas.entries()
    assert (found.mappings, found.coalesced, found.limit) == (8, 1, None)
    assert found.leaves == (None if world.hardware else {PAGE: 8}) and found.fewest_leaves == 8
    ioas.unmap_all()


def test_copy_many(world):
    ioas, other = world.ioas, world.ctx.ioas()
    memory = mmap.mmap(-1, 8 * PAGE)
    base = np.frombuffer(memory, np.uint8).ctypes.data
    addresses = base + np.arange(0, 8 * PAGE, PAGE)
    iovas = ioas.map_many(addresses, PAGE)
    there = ioas.copy_many(other, iovas, PAGE)
    assert [other.address_of(int(at)) for at in there] == addresses.tolist() and other.stats().mappings == 8
    assert other.iovas_of(addresses)[0].tolist() == there.tolist()
    places = (1 << 38) + np.arange(0, 16 * PAGE, 2 * PAGE)
    assert ioas.copy_many(ioas, iovas[::-1], PAGE, dst_iovas=places, access="r").tolist() == places.tolist()
    assert world.read(1 << 38, 1) == memory[7 * PAGE : 7 * PAGE + 1]
    assert ioas.copy_many(other, [], PAGE).size == 0
    ioas.unmap_many(places[3:4], PAGE)
    with pytest.raises(iof.NotFound, match="cannot copy entry 3 of the batch") as caught:
        ioas.copy_many(other, places, PAGE)
    assert caught.value.index == 3 and other.stats().mappings == 8
    with pytest.raises(iof.RangeExists) as caught:
        ioas.copy_many(other, iovas[:2], PAGE, dst_iovas=[1 << 38, there[0]])
    assert caught.value.index == 1 and other.stats().mappings == 8
    with pytest.raises(TypeError, match="other must be an Ioas"):
        ioas.copy_many(5, iovas, PAGE)
    with pytest.raises(ValueError, match="lengths has 1 entries, expected 8"):
        ioas.copy_many(other, iovas, [PAGE])
    with pytest.raises(ValueError, match="dst_iovas has 1 entries, expected 8"):
        ioas.copy_many(other, iovas, PAGE, dst_iovas=[0])
    other.close()
    ioas.unmap_all()


BATCHES = {
    "map_many": lambda ioas, at: ioas.map_many([at, at + PAGE, at + 2 * PAGE], PAGE),
    "map_sg": lambda ioas, at: ioas.map_sg([(at, PAGE), (at + PAGE, PAGE), (at + 2 * PAGE, PAGE)]),
    "map_parallel": lambda ioas, at: ioas.map_parallel(at, 3 * PAGE, threads=1),
}


@pytest.mark.parametrize("batch", BATCHES)
def test_what_a_kernel_could_not_pin(batch):
    """ENOMEM, because of RLIMIT_MEMLOCK: the error says how much is to be pinned, and what the limit is."""
    memory = mmap.mmap(-1, 3 * PAGE)
    at = np.frombuffer(memory, np.uint8).ctypes.data
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with PROVIDERS["kernel"]("user") as world:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (PAGE, before[1]))
        try:
            with pytest.raises(iof.OutOfMemory, match=f"{3 * PAGE} bytes are to be pinned .* limit") as caught:
                BATCHES[batch](world.ioas, at)
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
        assert caught.value.index == (None if batch == "map_parallel" else 1)
        assert world.ioas.stats().mappings == 0


def test_a_limit_is_warned_of_once(rig, monkeypatch):
    from iommufd_fast import reshaping

    ioas, _ = rig
    monkeypatch.setattr(reshaping.reshape, "entries", lambda *args: (60000, 5, 65535, {}, 5))
    with pytest.warns(ResourceWarning, match="60000 mappings of at most 65535"):
        assert ioas.entries().limit == 65535
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ioas.entries()
