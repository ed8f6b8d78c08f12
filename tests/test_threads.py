# SPDX-License-Identifier: Apache-2.0
"""Python threads that share objects: nothing crashes, nothing is lost, and what is refused is refused by a sentence.

The same tests run with and without a GIL (`make test-freethreaded`); without one they show that each object of the
package guards itself. Each does many short rounds: threads meet at the edges of an object's life.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest

import iommufd_fast as iof
from iommufd_fast._core.iova import IovaSpace
from iommufd_fast._core.pages import PinnedPages
from iommufd_fast._core.pagetable import PageTable

PAGE = 4096
THREADS = 4
SECONDS = 0.4


def together(*work: Callable[[], object]) -> None:
    """Run the functions in threads of their own, which start at once; what one raises comes out here."""
    errors: list[BaseException] = []
    gate = threading.Barrier(len(work))

    def run(one: Callable[[], object]) -> None:
        try:
            gate.wait()
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


def until_late(one: Callable[[int], object]) -> Callable[[], None]:
    """A function that calls `one` with 0, 1, 2 … until the time is up."""

    def run() -> None:
        end, i = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            one(i)
            i += 1
        assert i > 1

    return run


def close(m: iof.Mapping) -> None:
    """Close a mapping that somebody else may be unmapping at this moment (EBUSY)."""
    while not m.closed:
        with suppress(iof.Busy):
            m.close()


def pages(n: int) -> list[np.ndarray]:
    memory = np.zeros((n + 1) * PAGE, np.uint8)
    skip = -int(memory.ctypes.data) % PAGE
    return [memory[skip + i * PAGE : skip + (i + 1) * PAGE] for i in range(n)]


@pytest.fixture
def machine():
    with iof.Machine("intel", groups=(1, 1)) as made:
        yield made
        gc.collect()
        assert made.is_valid()


@pytest.fixture
def ctx(machine):
    with machine.open() as made:
        yield made


@pytest.fixture
def ioas(ctx):
    made = ctx.ioas()
    ctx.bind(0).attach(made)
    return made


EVERY = """
import importlib, pkgutil, sys
import iommufd_fast._core as core
for module in pkgutil.iter_modules(core.__path__):
    importlib.import_module(f"iommufd_fast._core.{module.name}")
print(len(list(pkgutil.iter_modules(core.__path__))), sys._is_gil_enabled())
"""


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_no_module_brings_the_gil_back():
    env = {k: v for k, v in os.environ.items() if k != "PYTHON_GIL"}  # 0 would keep it off whatever is imported
    done = subprocess.run([sys.executable, "-W", "error", "-c", EVERY], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, enabled = done.stdout.split()
    assert int(count) > 40 and enabled == "False"


def test_maps_and_unmaps_of_one_address_space(ioas):
    def one(mine: list[np.ndarray], mark: int) -> Callable[[int], None]:
        def step(i: int) -> None:
            live = [ioas.map(v) for v in mine]
            at = np.array([m.iova for m in live], np.uint64)
            found, prots = ioas.translate(at)
            assert found.tolist() == [v.ctypes.data for v in mine] and set(prots.tolist()) == {3}
            assert live[0].translate() == mine[0].ctypes.data and live[0].memory is mine[0]
            for m in live:
                m.close()
            assert all(m.closed and m.memory is None for m in live)

        return step

    together(*(until_late(one(pages(8), t)) for t in range(THREADS)))
    assert ioas.stats().mappings == 0 and ioas.live_handles == 0


def test_batches_beside_single_maps(ioas):
    def batches(i: int) -> None:
        views = pages(32)
        addresses = np.array([v.ctypes.data for v in views], np.uint64)
        at = ioas.map_many(addresses, PAGE, trusted=True)
        assert ioas.translate(at)[0].tolist() == addresses.tolist()
        assert not ioas.unmap_many(at, PAGE).any()

    mine = pages(4)

    def single(i: int) -> None:
        for m in [ioas.map(v) for v in mine]:
            assert m.translate() == m.address
            m.close()

    together(until_late(batches), until_late(batches), until_late(single))
    assert ioas.stats().mappings == 0 and ioas.live_handles == 0


def test_one_mapping_closed_by_all(ioas):
    views = pages(1)
    for _ in range(300):
        m = ioas.map(views[0])
        together(*[m.close] * 3, lambda m=m: (repr(m), m.memory, m.stale, m.closed))
        assert m.closed and m.memory is None
    assert ioas.stats().mappings == 0 and ioas.live_handles == 0


def test_exports_are_given_back_once(ioas):
    for _ in range(200):
        memory = bytearray(PAGE)
        m = ioas.map(memory)
        together(*[m.close] * 3)
        memory.extend(b"nobody holds it")


def test_handles_become_stale_while_they_are_closed_and_dropped(ioas):
    """Unmapping a range finds handles that other threads are closing, or whose last reference goes right now."""
    mine = pages(16)

    def closing(i: int) -> None:
        for m in [ioas.map(v) for v in mine[:8]]:
            close(m)
            assert m.memory is None
        with suppress(iof.NotFound):  # somebody unmapped it first
            m.unmap()

    def dropping(i: int) -> None:
        for m in [ioas.map(bytearray(PAGE)) for _ in range(4)]:
            close(m)
        del m

    def sweeping(i: int) -> None:
        with suppress(iof.NotFound, iof.Busy):  # nothing is there, or it is being made or unmapped
            ioas.unmap_all()

    together(until_late(closing), until_late(dropping), until_late(sweeping), until_late(sweeping))
    with suppress(iof.NotFound):
        ioas.unmap_all()
    assert ioas.stats().mappings == 0 and ioas.live_handles == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_forgotten_handles_beside_sweeps(ioas):
    def forgetting(i: int) -> None:
        for _ in range(8):
            ioas.map(bytearray(PAGE))

    def sweeping(i: int) -> None:
        with suppress(iof.NotFound, iof.Busy):  # nothing is there, or it is being made or unmapped
            ioas.unmap_all()

    together(until_late(forgetting), until_late(forgetting), until_late(sweeping))
    gc.collect()
    with suppress(iof.NotFound):
        ioas.unmap_all()
    assert ioas.stats().mappings == 0 and ioas.live_handles == 0


def test_copies_beside_closing(ctx, ioas):
    other = ctx.ioas()
    mine = pages(4)

    def copying(i: int) -> None:
        with ioas.map(mine[i % 4]) as m, suppress(iof.NotFound, ValueError):
            c = ioas.copy_to(other, m.iova, PAGE)
            assert other.iova_ranges()
            close(c)

    def sweeping(i: int) -> None:
        with suppress(iof.NotFound, iof.Busy):
            other.unmap_all()

    together(until_late(copying), until_late(copying), until_late(sweeping))
    assert ioas.stats().mappings == 0 and ioas.live_handles == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a list of mappings that was not finished
def test_an_address_space_closed_in_the_middle(ctx):
    mine = [pages(4) for _ in range(2)]

    def using(ioas: iof.Ioas, views: list[np.ndarray]) -> None:
        # Closed: a sentence. ENOENT: the engine was faster.
        with suppress(ValueError, iof.NotFound):
            for _ in range(1000):
                live = [ioas.map(v) for v in views]
                ioas.translate([m.iova for m in live]) if ioas.hwpts else None
                for m in live:
                    m.close()

    def closing(ioas: iof.Ioas, wait: float) -> None:
        time.sleep(wait)
        while not ioas.closed:
            with suppress(iof.Busy):  # a command is under way
                ioas.close()

    for i in range(60):
        ioas = ctx.ioas()
        together(
            lambda ioas=ioas: using(ioas, mine[0]),
            lambda ioas=ioas: using(ioas, mine[1]),
            lambda ioas=ioas, wait=i % 7 * 2e-4: closing(ioas, wait),
            lambda ioas=ioas, wait=i % 5 * 2e-4: closing(ioas, wait),
        )
        assert ioas.closed and ioas.live_handles == 0 and ioas not in ctx.ioases


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_context_closed_in_the_middle(machine):
    mine = [pages(4) for _ in range(2)]

    def using(ctx: iof.Iommufd, ioas: iof.Ioas, views: list[np.ndarray]) -> None:
        with suppress(ValueError, iof.NotFound):
            for _ in range(1000):
                live = [ioas.map(v) for v in views]
                ctx.stats()
                repr(ioas), repr(ctx), ctx.ioases, ctx.devices
                for m in live:
                    m.close()

    for i in range(40):
        ctx = machine.open()
        ioas = ctx.ioas()
        ctx.bind(0).attach(ioas)
        together(
            lambda ctx=ctx, ioas=ioas: using(ctx, ioas, mine[0]),
            lambda ctx=ctx, ioas=ioas: using(ctx, ioas, mine[1]),
            lambda ctx=ctx, wait=i % 7 * 3e-4: (time.sleep(wait), ctx.close()),
            lambda ctx=ctx, wait=i % 5 * 3e-4: (time.sleep(wait), ctx.close()),
        )
        assert ctx.closed and ioas.closed
    watcher = machine.open()
    assert watcher.stats().mappings == 0 and not any(d.bound or d.open for d in machine.devices)
    watcher.close()


def test_objects_come_and_go(machine, ctx):
    def spaces(i: int) -> None:
        made = ctx.ioas()
        assert made in ctx.ioases
        made.close()
        assert made not in ctx.ioases and made.closed

    def devices(i: int) -> None:
        with suppress(iof.Invalid, iof.NotPermitted):
            dev = ctx.bind(1)
            ioas = ctx.ioas()
            dev.attach(ioas)
            assert dev.hwpt is not None
            dev.close()
            ioas.close()

    def looking(i: int) -> None:
        assert all(isinstance(one, iof.Ioas) for one in ctx.ioases) and repr(ctx)
        assert len(machine.devices) >= 2 and ctx.accesses == ()
        assert all(e.dev_id for e in ctx.endpoints)

    together(until_late(spaces), until_late(spaces), until_late(devices), until_late(looking))
    assert ctx.ioases == () and ctx.devices == ()


def test_dma_while_memory_comes_and_goes(ctx):
    dev, ioas = ctx.bind(0), ctx.ioas()
    dev.attach(ioas)
    fixed = ioas.map(pages(1)[0])

    def mapping(i: int) -> None:
        with ioas.map(bytearray(2 * PAGE)) as m:
            dev.dma_write(m.iova, b"abc")
            assert dev.dma_read(m.iova, 3) == b"abc"

    def faulting(i: int) -> None:
        dev.dma_fill(fixed.iova, 64, i & 255)
        with pytest.raises(iof.DmaFault):
            dev.dma_read(0x7000_0000_0000, 8)

    together(until_late(mapping), until_late(mapping), until_late(faulting))
    fixed.close()


def test_one_arena(ioas):
    with ioas.arena(region=1 << 16, limit=1 << 20) as arena:

        def taking(i: int) -> None:
            taken = [arena.take(64 << (n & 3)) for n in range(8)]
            for n, b in enumerate(taken):
                view = memoryview(b)
                view[0] = n
                with pytest.raises(BufferError):
                    b.give()
                assert view[0] == n
                view.release()
            for b in taken:
                b.give()

        together(*[until_late(taking)] * 3, until_late(lambda i: (arena.stats(), arena.taken(), arena.memory)))
        assert arena.is_valid() and arena.taken() == []


def test_one_buffer_given_back_by_all(ioas):
    with ioas.arena(region=1 << 16) as arena:
        for _ in range(200):
            b, given = arena.take(64), []

            def give(b=b, given=given):
                with suppress(ValueError):
                    b.give()
                    given.append(1)

            def look(b=b):
                with suppress(ValueError):
                    memoryview(b).release()

            def insist(b=b):
                while True:
                    with suppress(BufferError):
                        return give()

            together(insist, insist, look)
            assert given == [1]
        assert arena.is_valid()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_arena_closed_in_the_middle(ioas):
    def using(arena: iof.DmaArena) -> None:
        kept = []
        with suppress(ValueError):
            for _ in range(500):
                b = arena.take(256)
                view = memoryview(b)
                kept.append(view)
                view[:] = bytes(256)
        for view in kept:
            view[0] = 1  # readable and writable for as long as it is there

    for i in range(40):
        arena = ioas.arena(region=1 << 16, limit=1 << 19)
        together(
            lambda arena=arena: using(arena),
            lambda arena=arena: using(arena),
            lambda arena=arena, wait=i % 5 * 2e-4: (time.sleep(wait), arena.close()),
            arena.close if i & 1 else lambda: None,
        )
        assert arena.closed
    gc.collect()
    assert ioas.stats().mappings == 0


def test_one_cache(ioas):
    views = pages(24)
    with ioas.map_cache(max_entries=16) as cache:

        def getting(i: int) -> None:
            for v in views[i % 3 :: 3]:
                with cache.get(v) as got:
                    assert got.length == PAGE and got.iova >= 0

        def clearing(i: int) -> None:
            cache.trim()
            cache.invalidate(views[i % 24])
            cache.stats()

        together(until_late(getting), until_late(getting), until_late(clearing))
        assert cache.is_valid()
    assert ioas.stats().mappings == 0


def test_one_cached_mapping_released_by_all(ioas):
    view = pages(1)[0]
    with ioas.map_cache() as cache:
        for _ in range(200):
            got = cache.get(view)
            together(*[got.release] * 3)
            assert cache.stats().in_use == 0


def test_a_cache_closed_in_the_middle(ctx):
    views = pages(8)

    def using(cache: iof.MapCache) -> None:
        with suppress(ValueError, iof.NotFound):
            for i in range(500):
                with cache.get(views[i % 8]):
                    pass

    for i in range(40):
        ioas = ctx.ioas()
        cache = ioas.map_cache()

        def closing(cache=cache, ioas=ioas, i=i):
            time.sleep(i % 5 * 2e-4)
            with suppress(iof.Busy):
                cache.close()
            ioas.close()  # ends it at the latest

        together(lambda cache=cache: using(cache), lambda cache=cache: using(cache), closing)
        assert cache.closed and ioas.closed


def test_holds(machine):
    def holding(i: int) -> None:
        memory = bytearray(4 * PAGE)
        held = machine.hold(memory, policy="probe")
        together(held.release, held.release, lambda: repr(held))
        memory.extend(b"x")

    together(until_late(holding), until_late(holding))


def test_accesses(ctx):
    ioas = ctx.ioas()
    view = pages(1)[0]
    m = ioas.map(view)

    def pinning(access: iof.Access) -> Callable[[int], None]:
        def step(i: int) -> None:
            with access.pin(m.iova, 64, write=True) as pin:
                pin.view[0] = i & 255
            access.write(m.iova + 64, b"abc")
            assert access.read(m.iova + 64, 3) == b"abc"

        return step

    with ctx.access(ioas) as a, ctx.access(ioas) as b:
        together(until_late(pinning(a)), until_late(pinning(a)), until_late(pinning(b)))
    m.close()
    assert ctx.accesses == ()


def test_an_access_closed_in_the_middle(ctx):
    ioas = ctx.ioas()
    m = ioas.map(pages(1)[0])

    def using(access: iof.Access) -> None:
        with suppress(ValueError, iof.NotFound):
            for _ in range(500):
                access.pin(m.iova, 64).unpin()
                access.read(m.iova, 8)

    for i in range(60):
        access = ctx.access(ioas)
        together(
            lambda access=access: using(access),
            lambda access=access: using(access),
            lambda access=access, wait=i % 5 * 1e-4: (time.sleep(wait), access.close()),
            access.close if i & 1 else lambda: None,
        )
        assert access.closed
    m.close()


def test_unmapping_what_is_pinned(ctx):
    ioas = ctx.ioas()
    views = pages(2)
    with ctx.access(ioas) as access:

        def pinning(i: int) -> None:
            with suppress(iof.NotFound), ioas.map(views[0]) as m, access.pin(m.iova, 64) as pin:
                assert len(pin) == 64
            with ioas.map(views[1]) as m:
                access.pin(m.iova, 64)  # whoever unmaps gives it back

        together(until_late(pinning), until_late(pinning))
        assert access.pinned == ()


def test_event_queues(ctx):
    queue = ctx.fault_queue()
    got = []

    def reading() -> None:
        got.extend(queue.read(timeout=None))  # until it is closed

    together(reading, reading, lambda: (time.sleep(0.05), queue.close()), lambda: (time.sleep(0.05), queue.close()))
    assert queue.closed and got == []


def test_one_machine_closed_by_all():
    for _ in range(100):
        machine = iof.Machine("intel", groups=(1,))

        def using(machine=machine):
            with suppress(ValueError):
                while True:
                    assert machine.devices[0].index == 0
                    machine.plug()
                    machine.open().close()

        together(using, using, lambda machine=machine: (time.sleep(1e-3), machine.close()), machine.close)
        assert machine.closed


def test_the_default_machine_is_one():
    found: list[iof.Machine] = []
    together(*[lambda: found.append(iof.default_machine())] * THREADS)
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize("policy", ["recycle", "first_fit"])
def test_iova_spaces(policy):
    space = IovaSpace(policy=policy)

    def one(i: int) -> None:
        taken = [space.alloc(PAGE << (n & 3)) for n in range(16)]
        assert len(set(taken)) == 16
        for n, at in enumerate(taken):
            assert space.find(at) is not None
            space.free(at, PAGE << (n & 3))
        many = space.alloc_many([PAGE] * 32)
        space.free_many(many, [PAGE] * 32)

    together(*[until_late(one)] * 3, until_late(lambda i: (space.stats(), len(space))))
    assert len(space) == 0 and space.is_valid()
    together(space.close, space.close)


def test_page_tables():
    with PageTable("vtdss") as table:

        def one(base: int) -> Callable[[int], None]:
            def step(i: int) -> None:
                table.map(base, 0x1000, 4 * PAGE)
                assert table.translate(base + PAGE) is not None
                table.unmap(base, 4 * PAGE)

            return step

        together(*(until_late(one(t << 30)) for t in range(THREADS)))


def test_pinned_pages():
    memory = bytearray(64 * PAGE)
    with PinnedPages(memory) as held:

        def one(i: int) -> None:
            held.hold(i % 8, i % 8 + 4)
            held.release(i % 8, i % 8 + 4)

        together(*[until_late(one)] * 3)
    memory.extend(b"x")
