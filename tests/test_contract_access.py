# SPDX-License-Identifier: Apache-2.0
"""Accesses: this process as a user of an address space; pins hold memory, and unmapping waits for them."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
import pytest

import iommufd_fast as iof

PAGE = 4096


@pytest.fixture(params=["va", "synthetic"])
def machine(request):
    with iof.Machine("intel", groups=[1], addresses=request.param) as m:
        yield m


@pytest.fixture
def ctx(machine):
    with machine.open() as c:
        yield c


@pytest.fixture
def ioas(ctx):
    return ctx.ioas()


@pytest.fixture
def buf():
    whole = np.zeros(9 * PAGE, np.uint8)
    at = -whole.ctypes.data % PAGE
    return whole[at : at + 8 * PAGE]


@pytest.fixture
def m(ioas, buf):
    mapping = ioas.map(buf, iova=0x100000)
    yield mapping
    mapping.close()


def test_read_and_write(ctx, ioas, buf, m):
    with ctx.access(ioas, pin=False) as access:
        access.write(m.iova + PAGE - 1, b"any alignment")
        assert bytes(buf[PAGE - 1 : PAGE + 12]) == b"any alignment"
        assert access.read(m.iova + PAGE - 1, 13) == b"any alignment"
        into = np.zeros(3, np.uint8)
        access.read_into(m.iova + PAGE, into)
        assert bytes(into) == b"ny "
        with pytest.raises(iof.NotFound, match="not all of the range"):
            access.read(m.iova + 8 * PAGE - 1, 2)
        with pytest.raises(iof.Invalid, match="length is 0"):
            access.read(m.iova, 0)
        with pytest.raises(iof.Invalid, match="pin=False"):
            access.pin(m.iova, PAGE)
        m.close()
        with pytest.raises(iof.NotFound):
            access.read(m.iova, 1)
    assert access.closed


def test_a_pin_is_the_memory_itself(ctx, ioas, buf, m):
    with ctx.access(ioas) as access:
        with access.pin(m.iova + 100, 2 * PAGE, write=True) as pin:
            assert len(pin) == 2 * PAGE and access.pinned == (pin,) and pin.live
            view = pin.view
            assert view.nbytes == 2 * PAGE and not view.readonly
            view[:4] = b"zero"
            assert bytes(buf[100:104]) == b"zero"
            buf[100 + 2 * PAGE - 1] = 9
            assert pin.views[0][-1] == 9
        with pytest.raises(ValueError, match="released"):
            view[0]
        assert not pin.live and access.pinned == ()
        with pytest.raises(ValueError, match="not pinned any more"):
            _ = pin.views
        pin.unpin()  # again is fine
        with access.pin(m.iova, PAGE) as pin, pytest.raises(TypeError, match="read-only"):
            pin.view[0] = 1


def test_pins_count_and_pieces(ctx, ioas, machine):
    rooms = [np.zeros(3 * PAGE, np.uint8) for _ in range(2)]
    bufs = [room[-room.ctypes.data % PAGE :][:PAGE] for room in rooms]
    bufs[0][:], bufs[1][:] = 1, 2
    with ioas.map(bufs[0], iova=0x10000) as a, ioas.map(bufs[1], iova=0x11000), ctx.access(ioas) as access:
        with access.pin(a.iova + 10, 2 * PAGE - 20) as pin, access.pin(a.iova, PAGE) as again:
            assert b"".join(pin.views) == bytes([1]) * (PAGE - 10) + bytes([2]) * (PAGE - 10)
            if len(pin.views) == 2:
                with pytest.raises(ValueError, match="2 pieces"):
                    _ = pin.view
            if machine._synthetic:
                assert machine.pins(bufs[0].ctypes.data) == 1  # one container, pinned once
            assert ioas.stats().pinned_pages == 2 and again.live
            assert machine.is_valid()
        assert ioas.stats().pinned_pages == 0


def test_permissions(ctx, ioas, buf):
    with ioas.map(buf, access="r") as r, ctx.access(ioas) as access:
        access.pin(r.iova, PAGE).unpin()
        with pytest.raises(iof.NotPermitted, match="not mapped for this"):
            access.pin(r.iova, PAGE, write=True)
        with pytest.raises(PermissionError):
            access.write(r.iova, b"x")
        assert access.pinned == ()


def test_files(ctx, ioas, machine):
    fd = os.memfd_create("x")
    os.ftruncate(fd, 2 * PAGE)
    with ioas.map_file(fd) as m, ctx.access(ioas) as access:
        access.write(m.iova + 5, b"file")
        assert os.pread(fd, 4, 5) == b"file" == access.read(m.iova + 5, 4)
        if machine._synthetic:
            with pytest.raises(iof.NotSupported, match="no address in this process"):
                access.pin(m.iova, PAGE)
            assert ioas.stats().pinned_pages == 0
        else:
            with access.pin(m.iova, 2 * PAGE, write=True) as pin:
                pin.view[PAGE] = 65
            assert os.pread(fd, 1, PAGE) == b"A"
    os.close(fd)


def test_unmapping_takes_pins_back(ctx, ioas, buf, m):
    told = []
    with ctx.access(ioas, on_unmap=lambda a, iova, length: told.append((a, iova, length))) as access:
        pin = access.pin(m.iova + PAGE, PAGE)
        view = pin.view
        m.unmap()
        assert told and told[0] == (access, 0x100000, 8 * PAGE)
        assert not pin.live and access.pinned == () and m.closed
        with pytest.raises(ValueError, match="released"):
            view[0]


def test_what_is_in_use_holds_unmapping_up(ctx, ioas, buf, m):
    with ctx.access(ioas) as access:
        pin = access.pin(m.iova, PAGE)
        array = np.frombuffer(pin.view, np.uint8)
        with pytest.raises(iof.IommufdError, match="views of that memory are in use") as e:
            m.unmap()
        assert e.value.errno == 35 and not m.closed and pin.live
        buf[3] = 42
        assert array[3] == 42
        for close in (pin.unpin, access.close, access.detach, ctx.close):
            with pytest.raises(BufferError, match="in use"):
                close()
        assert not access.closed and not ctx.closed
        del array
        m.unmap()
        assert m.closed and not pin.live


def test_the_callback_may_unpin_and_may_fail(ctx, ioas, buf, m, monkeypatch):
    hook = []
    monkeypatch.setattr(sys, "unraisablehook", hook.append)
    forbidden = []

    def on_unmap(access, iova, length):
        access.pinned[0].unpin()
        for call in (access.close, access.detach):
            with pytest.raises(RuntimeError, match="on_unmap"):
                call()
            forbidden.append(call)
        raise ZeroDivisionError("in the call-back")

    with ctx.access(ioas, on_unmap=on_unmap) as access:
        first, second = access.pin(m.iova, PAGE), access.pin(m.iova + PAGE, PAGE)
        m.unmap()
        assert not first.live and not second.live and len(forbidden) == 2
        assert isinstance(hook[0].exc_value, ZeroDivisionError)
        access.on_unmap = None
        hook.clear()


def test_moving_to_another_space(ctx, ioas, buf, m):
    other = ctx.ioas()
    access = ctx.access(pin=True)
    assert access.ioas is None and "not attached" in repr(access)
    with pytest.raises(iof.NotFound):
        access.pin(m.iova, PAGE)
    access.attach(ioas)
    pin = access.pin(m.iova, PAGE)
    with pytest.raises(iof.Busy, match=f"access {access.id}"):
        m.close() or ioas.close()
    m = ioas.map(buf, iova=0x100000)
    assert not pin.live
    pin = access.pin(m.iova, PAGE)
    access.replace(ioas)  # stays where it is
    assert pin.live
    access.replace(other)
    assert not pin.live and access.ioas is other
    m.close()
    ioas.close()
    access.detach()
    access.detach()
    other.close()
    with pytest.raises(ValueError, match="was destroyed"):
        access.attach(other)
    with pytest.raises(TypeError):
        access.attach(3)
    access.close()
    access.close()
    assert ctx.accesses == ()
    with pytest.raises(ValueError, match="closed"):
        access.read(0, 1)


def test_its_id_is_busy(ctx, ioas):
    with ctx.access(ioas) as access:
        with pytest.raises(iof.Busy):
            ctx.destroy(access.id)
        assert ctx.accesses == (access,)
    with pytest.raises(iof.NotFound):
        ctx.destroy(access.id)


def test_arguments(ctx, ioas):
    with pytest.raises(TypeError, match="made by"):
        iof.Access()
    with pytest.raises(TypeError, match="callable"):
        ctx.access(ioas, on_unmap=3)
    with pytest.raises(ValueError, match="pin"):
        ctx.access(ioas, pin=False, on_unmap=print)
    with iof.Machine("intel") as m, m.open() as other, ctx.access() as access:
        with pytest.raises(ValueError, match="another context"):
            access.attach(other.ioas())
        access.attach(ioas)
        for iova, length in ((0, 0), (2**64 - 1, 2)):
            with pytest.raises(ValueError, match="cannot pin"):
                access.pin(iova, length)
        with pytest.raises(ValueError, match="more than can be pinned"):
            access.pin(0, 2**63)


def test_closing_the_context_closes_accesses(machine, buf):
    ctx = machine.open()
    access, ioas = ctx.access(), ctx.ioas()
    access.attach(ioas)
    m = ioas.map(buf, iova=0x100000)
    pin = access.pin(m.iova, PAGE)
    view = pin.view
    ctx.close()
    assert access.closed and m.stale and not pin.live and machine.is_valid()
    with pytest.raises(ValueError, match="released"):
        view[0]


def test_threads_pin_while_others_unmap(ctx, ioas, machine):
    """Every pin that was given sees its mapping's bytes; no unmap fails, and nothing is left."""
    stop = threading.Event()
    wrong = []
    rooms = [np.full(3 * PAGE, k + 1, np.uint8) for k in range(3)]
    aligned = [a[-a.ctypes.data % PAGE :][: 2 * PAGE] for a in rooms]
    told, pinned = [], [0, 0, 1 << 30]
    access = ctx.access(ioas, on_unmap=lambda *a: told.append(a))

    def pin(k):
        while not stop.is_set():
            try:
                with access.pin(0x100000 + k * 0x10000, 2 * PAGE) as p:
                    views = p.views
                    if {v[0] for v in views} != {k + 1}:
                        wrong.append(k)
                    pinned[k] += 1
            except (iof.NotFound, iof.Invalid, ValueError):
                pass

    def cycle(k):
        for i in range(150):
            try:
                m = ioas.map(aligned[k], iova=0x100000 + k * 0x10000)
                seen = pinned[k]
                while i % 2 and pinned[k] < min(seen + 2, 1 << 30):
                    time.sleep(0)
                m.unmap()
            except Exception as error:
                wrong.append(error)

    pinners = [threading.Thread(target=pin, args=(k,)) for k in (0, 1)]
    mappers = [threading.Thread(target=cycle, args=(k,)) for k in (0, 1, 2)]
    for t in pinners + mappers:
        t.start()
    for t in mappers:
        t.join()
    stop.set()
    for t in pinners:
        t.join()
    assert not wrong and told
    access.close()
    assert ioas.stats().mappings == 0 and ioas.stats().pinned_pages == 0 and machine.is_valid()
