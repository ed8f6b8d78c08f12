# SPDX-License-Identifier: Apache-2.0
"""Lifetimes: closing in every order, and two contexts that want the same group."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

import iommufd_fast as iof

ORDERS = list(itertools.permutations(["map", "dev", "ioas", "ctx", "machine"]))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_close_in_every_order(order):
    machine = iof.Machine("intel", groups=[1, 1])
    watcher = machine.open()  # keeps the machine alive, to look at it in the end
    ctx = machine.open()
    handles = {"machine": machine, "ctx": ctx, "dev": ctx.bind(0), "ioas": ctx.ioas()}
    hwpt = handles["dev"].attach(handles["ioas"])
    buf = bytearray(1 << 14)
    handles["map"] = handles["ioas"].map(buf)
    for name in order:
        attached = not handles["dev"].closed and not ctx.closed
        if name == "ioas" and attached:
            with pytest.raises(iof.Busy, match=f"HWPT {hwpt.id}, device {handles['dev'].id}"):
                handles[name].close()
        else:
            handles[name].close()
            handles[name].close()  # again is fine
            assert handles[name].closed
    for name in order:  # what was busy goes now
        handles[name].close()
        assert handles[name].closed
    assert hwpt.closed
    buf.extend(b"nobody holds the memory")
    assert watcher.stats().mappings == 0
    watcher.close()


@pytest.fixture
def machine():
    with iof.Machine("intel", groups=[2, 1]) as m:
        yield m


def test_two_contexts_and_a_group_of_two(machine):
    assert [[d.index for d in g] for g in machine.groups] == [[0, 1], [2]]
    with machine.open() as a, machine.open() as b:
        first = a.bind(0)
        for index in (0, 1):
            with pytest.raises((iof.NotPermitted, iof.Invalid)) as e:
                b.bind(index)
        assert e.value.errno == 1 and "same group" in str(e.value) and isinstance(e.value, PermissionError)
        second, other = a.bind(1), b.bind(2)
        first.close()
        with pytest.raises(iof.NotPermitted):
            b.bind(0)  # the group is still owned through device 1
        second.close()
        mine = b.bind(0)
        with pytest.raises(iof.NotPermitted):
            a.bind(1)
        assert b.devices == tuple(sorted((mine, other), key=lambda d: d.id)) and a.devices == ()
        assert [d.bound for d in machine.devices] == [True, False, True]
    assert machine.is_valid() and not any(d.bound or d.open for d in machine.devices)


def test_a_group_is_attached_together(machine):
    with machine.open() as ctx:
        one, two, alone = (ctx.bind(i) for i in range(3))
        x, y = ctx.ioas(), ctx.ioas()
        assert one.attach(x) is two.attach(x)
        with pytest.raises(iof.Busy):
            ctx.destroy(one.hwpt.id)
        hwpt = alone.attach(x)
        assert hwpt is one.hwpt and hwpt.stats().endpoints == 3
        assert {e.dev_id for e in x.endpoints} == {one.id, two.id, alone.id}
        new = one.attach(y)  # replace acts on the whole group
        assert one.hwpt is two.hwpt is new and alone.hwpt is hwpt and not hwpt.closed
        assert [e.ioas_id for e in ctx.endpoints] == [y.id, y.id, x.id]
        alone.detach()
        assert hwpt.closed and alone.hwpt is None and alone.endpoints[0].blocked
        assert "blocked" in str(alone.endpoints[0])


def test_explicit_page_table(machine):
    with machine.open() as ctx:
        dev, ioas = ctx.bind(2), ctx.ioas()
        hwpt = ctx.hwpt(dev, ioas)
        buf = np.zeros(1 << 21, np.uint8)
        with ioas.map(buf) as m:
            assert hwpt.translate([m.iova])[0][0] == m.address and sum(hwpt.stats().leaves.values()) > 0
            assert dev.attach(hwpt) is hwpt and not hwpt.automatic
            dev.dma_write(m.iova, b"x")
            with pytest.raises(iof.Busy, match=f"device {dev.id}"):
                hwpt.close()
            dev.detach()
            assert not hwpt.closed
            with pytest.raises(iof.Busy, match=f"HWPT {hwpt.id}"):
                ioas.close()
            hwpt.close()
        ioas.close()


def test_soft_devices_are_found_or_plugged():
    with iof.Machine("intel", groups=[2]) as machine, machine.open() as a, machine.open() as b:
        assert a.bind(iof.SoftDevice("intel")).index == 0
        plugged = b.bind(iof.SoftDevice("intel"))  # device 1 is in a's group
        assert plugged.index == 2 and plugged.group == 1
        amd = b.bind(iof.SoftDevice("amd", machine=machine))
        assert amd.name.startswith("amd") and machine.devices[amd.index].preset == "amd"
        assert a.bind(iof.SoftDevice(index=1)).index == 1
        assert a.bind(machine.plug()).index == 4 and len(machine.devices) == 5
        plugged.close()
        assert a.bind(iof.SoftDevice("intel")).index == 2


def test_an_intel_and_an_amd_device_share_an_address_space():
    with iof.Machine(groups=()) as machine, machine.open() as ctx:
        ioas = ctx.ioas()
        devices = [ctx.bind(iof.SoftDevice(p)) for p in ("intel", "amd")]
        tables = [d.attach(ioas) for d in devices]
        assert tables[0] is not tables[1] and set(ioas.hwpts) == set(tables)
        buf = bytearray(4096)
        with ioas.map(buf) as m:
            devices[0].dma_write(m.iova, b"intel to amd")
            assert devices[1].dma_read(m.iova, 12) == b"intel to amd"


def test_default_machine_is_one():
    assert iof.default_machine() is iof.default_machine()
    with iof.open() as ctx:
        assert ctx.machine is iof.default_machine()


def test_threads_bind_devices_of_their_own():
    errors, names = [], []
    with iof.Machine(groups=()) as machine, machine.open() as ctx:

        def work():
            try:
                for _ in range(20):
                    with ctx.bind(iof.SoftDevice()) as dev, ctx.ioas() as ioas:
                        dev.attach(ioas)
                        with ioas.map(bytearray(100)) as m:
                            dev.dma_write(m.iova, b"mine")
                            assert dev.dma_read(m.iova, 4) == b"mine"
                        dev.detach()
                        names.append(dev.name)
            except BaseException as e:
                errors.append(e)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not errors and len(names) == 80 and ctx.devices == () and ctx.ioases == ()
        assert machine.is_valid()


def test_threads_map_and_unmap_one_address_space(machine):
    errors = []
    with machine.open() as ctx:
        dev, ioas = ctx.bind(2), ctx.ioas()
        dev.attach(ioas)

        def work(seed):
            rng = np.random.default_rng(seed)
            try:
                held = []
                for _ in range(300):
                    size = int(rng.choice([100, 5000, 300_000]))
                    held.append(ioas.map(np.full(size, seed, np.uint8)))
                    m = held[int(rng.integers(len(held)))]
                    assert dev.dma_read(m.iova, 3) == bytes([seed] * 3)
                    if len(held) > 20:
                        held.pop(int(rng.integers(20))).close()
                iovas = ioas.map_many([held[0].address & ~4095] * 8, 4096, trusted=True)
                assert not ioas.unmap_many(iovas, 4096).any()
                for m in held:
                    m.close()
            except BaseException as e:
                errors.append(e)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not errors and ioas.stats().mappings == 0 and ioas.live_handles == 0
    assert machine.is_valid()


def test_close_while_other_threads_are_inside(machine):
    for _ in range(10):
        ctx = machine.open()
        dev, ioas = ctx.bind(2), ctx.ioas()
        dev.attach(ioas)
        buf = np.zeros(1 << 20, np.uint8)
        m, errors, started = ioas.map(buf), [], threading.Barrier(3)

        def work(dev=dev, ioas=ioas, m=m, errors=errors, started=started):
            started.wait()
            try:
                while True:
                    dev.dma_fill(m.iova, 1 << 20, 1)
                    ioas.map(bytearray(1 << 17)).close()
            except ValueError as e:
                if "closed" not in str(e):
                    errors.append(e)
            except BaseException as e:
                errors.append(e)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for t in threads:
            t.start()
        started.wait()
        ctx.close()
        buf[:] = 2
        assert (buf == 2).all()  # no device writes any more
        for t in threads:
            t.join()
        assert not errors and m.stale
    assert machine.is_valid()
