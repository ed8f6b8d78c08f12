# SPDX-License-Identifier: Apache-2.0
"""fork() does not carry an engine over: the child's handles refuse, and closing them does the parent no harm."""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import signal
import threading
import traceback
import warnings

import numpy as np
import pytest

import iommufd_fast as iof


def in_child(check) -> None:
    """Fork, run `check` in the child, and fail with what it printed."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn about fork with threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(30)
            check()
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as f:
        said = f.read()
    assert os.waitpid(pid, 0)[1] == 0, said or "the child was killed"


@pytest.fixture
def machine():
    with iof.Machine("intel") as m:
        yield m


@pytest.fixture
def world(machine):
    with machine.open() as ctx:
        dev, ioas = ctx.bind(0), ctx.ioas()
        hwpt = dev.attach(ioas)
        buf = bytearray(1 << 16)
        yield machine, ctx, dev, ioas, hwpt, ioas.map(buf), buf


def test_calls_in_a_child_refuse_and_name_spawn(world):
    machine, ctx, dev, ioas, hwpt, m, _buf = world

    def check():
        for call in (
            lambda: machine.devices,
            machine.open,
            ctx.ioas,
            lambda: ctx.bind(0),
            ctx.digest,
            lambda: ctx.endpoints,
            lambda: ctx.ioctl(0x3B80, bytearray(8)),
            lambda: dev.dma_write(m.iova, b"x"),
            lambda: dev.dma_read(m.iova, 1),
            lambda: dev.attach(ioas),
            dev.detach,
            lambda: ioas.map(bytearray(4096)),
            lambda: ioas.map_many([4096], 4096),
            lambda: ioas.unmap_many([4096], 4096),
            lambda: ioas.unmap_all(),
            lambda: ioas.translate([m.iova]),
            lambda: ioas.translate_one(m.iova),
            ioas.stats,
            hwpt.stats,
            m.unmap,
            m.translate,
        ):
            try:
                call()
            except iof.ForkedError as e:
                assert "spawn" in str(e)
            else:
                raise AssertionError(f"{call} worked in a child")
        for handle in (machine, ctx, dev, ioas, hwpt, m):
            repr(handle)

    in_child(check)
    assert dev.dma_read(m.iova, 4) == bytes(4)


def test_closing_in_a_child_does_no_harm(world):
    machine, ctx, dev, ioas, _, m, buf = world
    before = ctx.digest()

    def check():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            m.close()
            buf.extend(b"free in the child")
            for handle in (dev, ioas, ctx, machine, ctx, dev, m):
                handle.close()
            world_objects.clear()
            gc.collect()

    world_objects = [machine, ctx, dev, ioas, m]
    in_child(check)
    assert ctx.digest() == before and machine.is_valid() and not m.stale
    dev.dma_write(m.iova, b"parent")
    assert buf[:6] == b"parent"


def test_finalizers_in_a_child_do_no_harm():
    machine = iof.Machine("intel")
    holder = [machine.open()]
    holder.append(holder[0].ioas())
    holder.append(holder[1].map(bytearray(4096)))

    def check():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            holder.clear()
            gc.collect()

    in_child(check)
    assert holder[1].stats().mappings == 1 and not holder[2].stale
    holder[2].close()
    holder[0].close()


def test_a_child_opens_its_own(world):
    machine = iof.default_machine()

    def check():
        assert iof.default_machine() is not machine
        with iof.open() as ctx:
            dev, ioas = ctx.bind(iof.SoftDevice()), ctx.ioas()
            dev.attach(ioas)
            buf = bytearray(4096)
            with ioas.map(buf) as m:
                dev.dma_write(m.iova, b"child")
            assert buf[:5] == b"child" and ctx.machine.is_valid()

    in_child(check)
    assert iof.default_machine() is machine


def test_fork_while_other_threads_are_in_the_engine(world):
    """The child must not wait for a lock that a thread of the parent held."""
    machine, ctx, dev, ioas, _, m, _ = world
    stop = threading.Event()

    def busy():
        buf = np.zeros(1 << 20, np.uint8)
        while not stop.is_set():
            with ioas.map(buf) as mine:
                dev.dma_fill(mine.iova, 1 << 20, 1)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(5):
            in_child(lambda: (m.close(), dev.close(), ctx.close(), iof.open().close()))
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert machine.is_valid() and ctx.stats().mappings == 1


def work(n: int) -> bytes:
    """What a worker process does: everything on its own."""
    with iof.open() as ctx:
        dev, ioas = ctx.bind(iof.SoftDevice("amd")), ctx.ioas()
        dev.attach(ioas)
        with ioas.map(np.full(4096, n, np.uint8)) as m:
            return dev.dma_read(m.iova, 3)


def inherit(handle, queue) -> None:
    try:
        handle.ioas()
    except iof.ForkedError as e:
        queue.put(str(e))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, world):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            assert pool.map(work, range(4)) == [bytes([n] * 3) for n in range(4)]
            pool.close()
            pool.join()


def test_a_handle_given_to_a_forked_process(world):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = context.Process(target=inherit, args=(world[1], queue))
        process.start()
    assert "spawn" in queue.get(timeout=30)
    process.join()
    assert process.exitcode == 0 and world[0].is_valid()
    queue.close()


def test_handles_do_not_travel_to_a_spawned_process(world):
    for handle in world[1:6]:
        with pytest.raises(TypeError, match="cannot pickle"):
            multiprocessing.reduction.ForkingPickler.dumps(handle)


@pytest.mark.parametrize("policy", ["probe", "mlock"])
def test_held_regions_in_a_child_do_no_harm(world, policy):
    """The region belongs to the parent: letting it go in the child changes nothing there."""
    machine, _, dev, ioas, *_ = world
    memory = mmap.mmap(-1, 4 * mmap.PAGESIZE)
    held = machine.hold(memory, policy=policy)
    mapping = ioas.map(memory, policy=policy)

    def child() -> None:
        held.release()
        with pytest.raises(iof.ForkedError):
            machine.hold(memory, policy=policy)
        memory[:4] = b"mine"

    in_child(child)
    dev.dma_write(mapping.iova, b"parent's")
    assert memory[:8] == b"parent's" and not held.released
    with ioas.map(memory, policy=policy) as again:
        assert dev.dma_read(again.iova, 8) == b"parent's"
    mapping.close()
    held.release()
    assert machine.is_valid()


def test_the_address_index_in_a_child(world):
    _, _, _, ioas, _, mapping, buf = world
    assert ioas.iova_of(buf) == mapping.iova

    def child() -> None:
        with pytest.raises(iof.ForkedError):
            ioas.iova_of(buf)
        with pytest.raises(iof.ForkedError):
            ioas.iovas_of([0])

    in_child(child)
    assert ioas.iova_of(buf) == mapping.iova
    more = bytearray(4096)
    with ioas.map(more) as other:
        assert ioas.iova_of(more) == other.iova
