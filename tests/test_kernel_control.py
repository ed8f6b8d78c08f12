# SPDX-License-Identifier: Apache-2.0
"""The control plane over the kernel provider, over an engine that stands in the kernel's place.

An engine answers like Linux, so what tests of the control plane say of the engine must hold here too: those of mappings
are run again, all that do not look at the engine's insides. What a real kernel does is in tests/vm/guest.
"""

from __future__ import annotations

import inspect
import mmap
import os

import numpy as np
import pytest
import test_control_mapping as mapping
import test_uapi as door

import iommufd_fast as iof
from iommufd_fast import uapi
from iommufd_fast._core import kernelfile
from iommufd_fast.context import Iommufd

PAGE = mmap.PAGESIZE


@pytest.fixture
def machine():
    with iof.Machine("intel", groups=(2, 1, 2)) as m:
        yield m
        assert m.is_valid()


def over(machine: iof.Machine, iova: str = "own") -> Iommufd:
    return Iommufd._open_kernel("/dev/iommu", iova, "a test asked for it", over=machine)


@pytest.fixture
def ctx(machine):
    with over(machine) as c:
        yield c


@pytest.fixture
def dev(ctx):
    return ctx.bind(iof.VfioDevice("vfio0"))


@pytest.fixture
def ioas(ctx, dev):
    space = ctx.ioas()
    dev.attach(space)
    return space


def pages(n: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, n * PAGE), np.uint8)


# Tests that make machines of their own, do DMA by a soft device, or look at what only the engine shows.
ENGINE_ONLY = ("dma", "Machine(", "digest", "SoftDevice", "bind(0)", "from_c")


def _again() -> dict[str, object]:
    tests = [t for module in (mapping, door) for name, t in vars(module).items() if name.startswith("test_")]
    return {f"{t.__name__}_here_too": t for t in tests if not any(w in inspect.getsource(t) for w in ENGINE_ONLY)}


AGAIN = _again()
globals().update(AGAIN)


def test_there_is_something_run_again():
    assert len(AGAIN) >= 15, sorted(AGAIN)


# -- what it is -------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is(machine, ctx):
    assert ctx.provider == "kernel" and ctx.why and ctx.machine is None and "kernel" in repr(ctx)
    with machine.open() as engine:
        assert engine.provider == "engine" and engine.why


def test_open_by_name(monkeypatch, tmp_path):
    from iommufd_fast import providers

    with pytest.raises(iof.NotFound, match=r"iof\.open"):
        iof.open("/nowhere/iommu")
    with pytest.raises(ValueError, match="no provider 'nonsense'"):
        iof.open("nonsense")
    with pytest.raises(ValueError, match="iova must be one of"):
        iof.open(iova="mine")
    with pytest.raises(ValueError, match="machine is the engine's"), iof.Machine() as m:
        iof.open("kernel", machine=m)
    for wrong in (1.5, None, True, b"kernel"):
        with pytest.raises(TypeError):
            iof.open(wrong)
    monkeypatch.setattr(providers, "_VFIO", tmp_path / "none")
    with iof.open("auto") as c:
        assert c.provider == "engine" and "no device" in c.why
    (tmp_path / "vfio3").touch()
    monkeypatch.setattr(providers, "_VFIO", tmp_path)
    monkeypatch.setattr(providers, "DEV_IOMMU", str(tmp_path / "iommu"))
    with iof.open("auto") as c:
        assert c.provider == "engine" and "no such file" in c.why


def test_what_only_the_engine_can(ctx, dev, ioas):
    for call in (
        lambda: dev.dma_read(0, 1),
        lambda: ctx.digest(),
        lambda: ctx.access(ioas),
        lambda: ctx.bind(iof.SoftDevice()),
        lambda: ctx.bind(0),
        lambda: dev.hwpt.dirty(),
    ):
        with pytest.raises(iof.NotSupported):
            call()


def test_a_real_device_needs_a_kernel(machine):
    with machine.open() as engine, pytest.raises(ValueError, match=r"iof\.open"):
        engine.bind(iof.VfioDevice("vfio0"))


@pytest.mark.parametrize("wrong", [None, 1.5, True, b"vfio0"])
def test_a_bad_description(wrong):
    with pytest.raises(TypeError):
        iof.VfioDevice(wrong)
    with pytest.raises((TypeError, ValueError)):
        iof.VfioDevice("vfio0", group=-1)


# -- devices ----------------------------------------------------------------------------------------------------------


def test_groups_move_together(ctx):
    a, b, other = (ctx.bind(iof.VfioDevice(f"vfio{i}")) for i in (0, 1, 2))
    assert a.group == b.group != other.group and [d.index for d in ctx.devices] == [0, 1, 2]
    first, second = ctx.ioas(), ctx.ioas()
    a.attach(first), b.attach(first)
    old = a.hwpt
    b.replace(second)
    assert a.ioas is b.ioas is second and old.closed and len(second.endpoints) == 2 and not first.endpoints
    b.detach()
    assert a.ioas is second and b.endpoints[0].blocked
    b.close()
    assert ctx.devices == (a, other) and {e.dev_id for e in ctx.endpoints} == {a.id, other.id}


def test_pasids(ctx, dev):
    table = ctx.hwpt(dev, ctx.ioas(), uapi.HwptFlag.PASID)
    dev.attach(table)
    dev.attach(table, pasid=7)
    assert [e.pasid for e in dev.endpoints] == [None, 7] and len(table.ioas.endpoints) == 2
    dev.detach(pasid=7)
    assert [e.pasid for e in dev.endpoints] == [None]


def test_two_contexts_and_one_group(machine, ctx, dev):
    with over(machine) as second:
        with pytest.raises(iof.NotPermitted, match="another context"):
            second.bind(iof.VfioDevice("vfio1"))
        assert second.devices == () and second.endpoints == ()
        dev.close()
        assert second.bind(iof.VfioDevice("vfio1")).endpoints[0].blocked


def test_a_mapping_in_the_way(ctx, dev):
    space = ctx.ioas()
    m = space.map(pages(1), iova=0xFEE00000)
    with pytest.raises(iof.RangeReserved, match="IOVA 0xfee00000"):
        dev.attach(space)
    assert dev.endpoints[0].blocked and ctx.hwpts == ()
    m.close()
    assert dev.attach(space).ioas is space


def test_wrong_order(ctx, dev, ioas):
    with pytest.raises(iof.Busy, match=r"HWPT \d+.*device \d+"):
        ioas.close()
    with pytest.raises(iof.UnknownCommand):
        dev.region(0)  # a soft device has none
    with pytest.raises(iof.UnknownCommand, match="no reset"):
        dev.reset()
    dev.close()
    with pytest.raises(ValueError, match="closed"):
        dev.region(0)
    ioas.close()
    assert ctx.ioases == ()


def test_queues_and_their_files(ctx):
    with ctx.fault_queue() as queue:
        assert queue.read(timeout=0) == []
        with pytest.raises(iof.Invalid):
            queue.respond(5)
    assert not ctx._objects


# -- IOVAs ------------------------------------------------------------------------------------------------------------


def test_places_are_used_again_and_never_shared(ctx, ioas):
    maps = [ioas.map(pages(1)) for _ in range(100)]
    assert len({m.iova for m in maps}) == 100
    before = maps[50].iova
    maps[50].close()
    maps[50] = ioas.map(pages(1))
    assert maps[50].iova == before
    assert kernelfile.counts(ctx._h, ioas.id)[:3] == (101, 0, 0)
    for m in maps:
        m.close()


@pytest.mark.parametrize("iova", ["own", "kernel", "va"])
def test_who_chooses(machine, iova):
    with over(machine, iova) as c:
        space, buffer = c.ioas(), pages(3)
        with space.map(buffer) as m, space.copy_to(space, m.iova, PAGE) as other:
            assert other.address is None or other.range[0] != m.range[0]
            places = {"own": m.iova >= 1 << 21, "kernel": m.iova < 1 << 20, "va": m.iova == buffer.ctypes.data}
            assert places[iova]
            assert [x.address for x in space.mappings()].count(buffer.ctypes.data) == 2


def test_files_and_what_has_a_descriptor(ioas):
    fd = os.memfd_create("x")
    os.ftruncate(fd, 3 * PAGE)
    with os.fdopen(fd, "r+b") as file, ioas.map(file) as m, ioas.map_file(file, PAGE, PAGE) as n:
        assert (m.offset, m.length, n.offset) == (0, 3 * PAGE, PAGE)
        assert {x.kind for x in ioas.mappings()} == {"file"}
    with pytest.raises(TypeError, match="neither a buffer"):
        ioas.map(object())


def test_batches(ctx, ioas):
    buffer = pages(64)
    addresses = buffer.ctypes.data + PAGE * np.arange(64, dtype=np.uint64)
    iovas = ioas.map_many(addresses, PAGE)
    assert (ioas.translate(iovas)[0] == addresses).all() and ioas.stats().mappings == 64
    with pytest.raises(iof.RangeExists) as e:
        ioas.map_many(addresses, PAGE, iovas=iovas)
    assert e.value.index == 0 and ioas.stats().mappings == 64
    assert not ioas.unmap_many(iovas, PAGE).any() and not list(ioas.mappings())


def test_close_in_the_middle(machine):
    c = over(machine)
    dev, space = c.bind(iof.VfioDevice("vfio0")), c.ioas()
    dev.attach(space)
    m = space.map(pages(1))
    c.close()
    assert dev.closed and space.closed and m.closed and m.stale
    c.close()
    with pytest.raises(ValueError, match="closed"):
        c.ioas()


def test_a_forked_child_does_no_harm(ctx, dev, ioas):
    m = ioas.map(pages(1))
    pid = os.fork()
    if pid == 0:
        bad = 0
        for call in (ioas.stats, ctx.ioas, dev.detach, m.unmap):
            try:
                call()
                bad = 1
            except iof.ForkedError:
                pass
        m.close(), dev.close(), ctx.close()
        os._exit(bad)
    assert os.waitpid(pid, 0)[1] == 0
    assert not m.stale and ioas.stats().mappings == 1
    m.close()
