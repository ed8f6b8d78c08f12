# SPDX-License-Identifier: Apache-2.0
"""DmaArena and MapCache from Python: against models, with threads, and in every wrong way."""

from __future__ import annotations

import gc
import mmap
import os
import random
import threading
import weakref

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from providers import PROVIDERS

import iommufd_fast as iof

PAGE = 4096
pytestmark = pytest.mark.filterwarnings("ignore::iommufd_fast.PageSizeWarning")


@pytest.fixture(params=PROVIDERS)
def world(request):
    with PROVIDERS[request.param]() as made:
        yield made


# -- arena ------------------------------------------------------------------------------------------------------------


def test_take_write_give(world):
    with world.ioas.arena(region=1 << 16, page="4K") as arena:
        with arena.take(5000, align=8192, boundary=1 << 16) as buf:
            assert buf.length == len(buf) == 5000 and buf.capacity == 8192 and buf.iova % 8192 == 0
            world.write(buf.iova + 4999, b"\x11")
            assert buf.array[4999] == 0x11 and memoryview(buf)[4999] == 0x11 and buf.array.ctypes.data == buf.address
            assert np.from_dlpack(buf)[4999] == 0x11 and buf.__dlpack_device__() == (1, 0)
        assert arena.stats().taken == 0 and arena.stats().takes == arena.stats().gives == 1
        with pytest.raises(ValueError, match="given back"):
            buf.give()
        with pytest.raises(ValueError, match="given back"):
            _ = buf.iova
        assert arena.is_valid()
    assert world.ioas.stats().mappings == 0
    with pytest.raises(ValueError, match="closed"):
        arena.take(1)


def test_views_keep_a_buffer(world):
    with world.ioas.arena(region=1 << 16) as arena:
        buf = arena.take(100)
        view = buf.array
        with pytest.raises(BufferError, match="1 views"):
            buf.give()
        del view
        arena.give(buf)
        buf = arena.take(100)
        view = memoryview(buf)
        buf.give(force=True)
        other = arena.take(100)
        other.array[0] = 77
        assert view[0] == 77  # that is what forcing means
        del view
        other.give()


def test_views_outlive_the_arena(world):
    arena = world.ioas.arena(region=1 << 16)
    buf = arena.take(64)
    view = buf.array
    view[:] = 5
    with pytest.warns(ResourceWarning, match="1 buffers"):
        arena.close()
    del arena, buf
    gc.collect()
    assert view.sum() == 5 * 64


def test_growth_limit_and_leaks(world):
    iof.track_origins()
    try:
        arena = world.ioas.arena(region=1 << 16, limit=1 << 17)
        a, b = arena.take(1 << 16), arena.take(1 << 16)
        assert world.ioas.stats().mappings == 2 == len(arena.memory)
        with pytest.raises(iof.Full, match="larger limit"):
            arena.take(1)
        a.give()
        assert arena.taken()[0][:3] == (b.address, b.iova, 1 << 16) and __file__ in arena.taken()[0][3]
        with pytest.warns(ResourceWarning, match=f"1 buffers.*\n.*taken at {__file__}"):
            arena.close()
    finally:
        iof.track_origins(False)
    assert world.ioas.stats().mappings == 0


def test_a_forgotten_buffer_is_told_and_given_back(world):
    with world.ioas.arena(region=1 << 16) as arena:
        buf = arena.take(64)
        with pytest.warns(ResourceWarning, match="unclosed <DmaBuffer"):
            del buf
            gc.collect()
        assert arena.stats().taken == 0


def test_a_forgotten_arena_is_told(world):
    arena = world.ioas.arena(region=1 << 16)
    with pytest.warns(ResourceWarning, match="unclosed <DmaArena"):
        del arena
        gc.collect()
    assert world.ioas.stats().mappings == 0


def test_late_writes_are_counted(world):
    with world.ioas.arena(region=1 << 16, poison=True) as arena:
        buf = arena.take(256)
        iova = buf.iova
        buf.give()
        world.write(iova + 9, b"late")
        arena.take(256).give()
        assert arena.stats().late_writes == 1


def test_the_space_goes_first(world):
    arena = world.ioas.arena(region=1 << 16)
    buf = arena.take(64)
    buf.array[0] = 1
    world.dev.detach()
    world.ioas.close()
    with pytest.raises(ValueError, match="destroyed"):
        arena.take(64)
    assert repr(buf)
    with pytest.warns(ResourceWarning, match="1 buffers"):
        arena.close()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"length": 0}, "length is 0"),
        ({"length": (1 << 16) + 1}, "size of a region"),
        ({"length": 1, "align": 3}, "power of two"),
        ({"length": 1, "align": 1 << 17}, "align is"),
        ({"length": 5, "boundary": 4}, "boundary is 4"),
        ({"length": 5, "boundary": 12}, "boundary is 12"),
        ({"length": -1}, "length"),
    ],
)
def test_wrong_takes(world, wrong, match):
    with world.ioas.arena(region=1 << 16) as arena, pytest.raises(ValueError, match=match):
        arena.take(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"region": 3 << 16}, {"region": 1 << 12}, {"region": 1 << 40}, {"limit": 5}, {"limit": 1 << 50}, {"page": "x"}],
)
def test_wrong_arenas(world, wrong):
    with pytest.raises(ValueError):
        world.ioas.arena(**wrong)


def test_a_buffer_of_another_arena(world):
    with (
        world.ioas.arena(region=1 << 16) as one,
        world.ioas.arena(region=1 << 16) as two,
        one.take(1) as buf,
        pytest.raises(ValueError, match="another arena"),
    ):
        two.give(buf)


def test_threads_take_and_give(world):
    wrong = []

    def work(seed):
        dice, held = random.Random(seed), []
        try:
            for turn in range(400):
                if held and dice.random() < 0.5:
                    buf, mark = held.pop(dice.randrange(len(held)))
                    assert bytes(memoryview(buf)[:8]) == mark
                    buf.give()
                else:
                    buf, mark = arena.take(dice.choice([8, 100, 4096, 60000])), f"{seed:3}{turn:5}".encode()
                    memoryview(buf)[:8] = mark
                    held.append((buf, mark))
            for buf, _ in held:
                buf.give()
        except BaseException as error:
            wrong.append(error)

    with world.ioas.arena(region=1 << 16, limit=64 << 20) as arena:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong and arena.stats().taken == 0 and arena.is_valid()


class ArenaModel(RuleBasedStateMachine):
    """Buffers do not overlap, keep what was written to them, and are as asked for; the books agree with ours."""

    buffers = Bundle("buffers")

    provider = "engine"

    def __init__(self):
        super().__init__()
        self.stack = PROVIDERS[self.provider]()
        self.world = self.stack.__enter__()
        self.held = {}

    @initialize(regions=st.integers(1, 6), poison=st.booleans())
    def make(self, regions, poison):
        self.arena = self.world.ioas.arena(region=1 << 16, limit=regions << 16, poison=poison, page="4K")

    @rule(
        target=buffers,
        n=st.one_of(st.integers(1, 300), st.integers(1, 1 << 16)),
        align=st.sampled_from([0, 1, 64, 4096, 1 << 16]),
        edge=st.sampled_from([0, 256, 4096, 1 << 16]),
    )
    def take(self, n, align, edge):
        if edge and n > edge:
            with pytest.raises(ValueError):
                self.arena.take(n, align=align, boundary=edge)
            return None
        try:
            buf = self.arena.take(n, align=align, boundary=edge)
        except iof.Full:
            assert sum(b.capacity for b in self.held) + max(n, align) * 2 > self.arena.limit // 2
            return None
        assert not align or buf.iova % align == buf.address % align == 0
        assert not edge or buf.iova // edge == (buf.iova + n - 1) // edge
        for other in self.held:
            assert buf.iova + buf.capacity <= other.iova or other.iova + other.capacity <= buf.iova
        self.held[buf] = mark = os.urandom(min(n, 8))
        self.world.write(buf.iova + n - len(mark), mark)
        return buf

    @rule(buf=consumes(buffers))
    def give(self, buf):
        if buf is None:
            return
        mark = self.held.pop(buf)
        assert bytes(memoryview(buf))[-len(mark) :] == mark
        buf.give()
        with pytest.raises(ValueError):
            buf.give()

    @invariant()
    def books(self):
        if not hasattr(self, "arena"):
            return
        assert self.arena.is_valid()
        stats = self.arena.stats()
        assert stats.taken == sum(b.capacity for b in self.held) and stats.late_writes == 0
        assert sorted(t[1] for t in self.arena.taken()) == sorted(b.iova for b in self.held)
        assert stats.high >= stats.taken + stats.cached and stats.mapped <= stats.limit

    def teardown(self):
        for buf in self.held:
            buf.give()
        self.held.clear()
        if hasattr(self, "arena"):
            self.arena.close()
        self.stack.__exit__(None, None, None)


class KernelArenaModel(ArenaModel):
    provider = "kernel"


TestArenaModel, TestKernelArenaModel = ArenaModel.TestCase, KernelArenaModel.TestCase
TestArenaModel.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestKernelArenaModel.settings = TestArenaModel.settings


# -- cache ------------------------------------------------------------------------------------------------------------


def field(n):
    """n pages, page-aligned."""
    return np.frombuffer(mmap.mmap(-1, n * PAGE), np.uint8)


def test_hits_and_misses(world):
    buf = np.zeros(10 * PAGE, np.uint8)
    with world.ioas.map_cache() as cache:
        with cache.get(buf) as first, cache.get(buf) as second:
            assert first.iova == second.iova and first.length == buf.nbytes
            world.write(first.iova + 7, b"\x09")
            assert buf[7] == 9
            with pytest.raises(iof.Busy, match="in use"):
                cache.close()
        assert first.released
        with pytest.raises(ValueError, match="another's"):
            _ = first.iova
        with cache.get(buf[100:]) as part:
            assert part.iova == second_iova(cache, buf) + 100
        stats = cache.stats()
        assert stats.misses == 1 and stats.entries == 1 and stats.in_use == 0 and stats.hits == 3
        assert cache.is_valid()
    assert world.ioas.stats().mappings == 0 and cache.closed


def second_iova(cache, buf):
    with cache.get(buf) as use:
        return use.iova


def test_what_is_kept(world):
    kept, loose = np.zeros(PAGE, np.uint8), np.zeros(PAGE, np.uint8)
    refs = weakref.ref(kept), weakref.ref(loose)
    with world.ioas.map_cache() as cache, world.ioas.map_cache(keep=False) as careless:
        cache.get(kept).release()
        use = careless.get(loose)
        careless.invalidate(loose)
        del kept, loose
        gc.collect()
        assert refs[0]() is not None and refs[1]() is not None
        use.release()
        use = None
        assert cache.trim() > 0
        gc.collect()
        assert refs[0]() is None and refs[1]() is None


def test_a_bytearray_cannot_move_while_it_is_cached(world):
    b = bytearray(PAGE)
    with world.ioas.map_cache() as cache:
        cache.get(b).release()
        with pytest.raises(BufferError):
            b.extend(b"x")
        assert cache.invalidate(b) == 0
        b.extend(b"x")


def test_overlaps_keep_all_their_memory(world):
    """Buffers that share pages are mapped together; each is held until none of it is mapped."""
    whole = field(8)
    parts = [whole[i * 1000 : i * 1000 + 6000].view() for i in range(20)]
    with world.ioas.map_cache() as cache:
        for part in parts:
            cache.get(part).release()
        assert cache.stats().entries == 1
        for part in parts:
            with cache.get(part) as use:
                world.write(use.iova, b"\x05")
                assert part[0] == 5
        assert cache.stats().misses == 20 - cache.stats().hits + 20
        assert cache.is_valid()


def test_limits(world):
    buf = field(16)
    with world.ioas.map_cache(max_bytes=4 * PAGE, max_entries=3) as cache:
        uses = [cache.get(buf[2 * i * PAGE : (2 * i + 1) * PAGE]) for i in range(3)]
        with pytest.raises(iof.Full, match="in use"):
            cache.get(buf[10 * PAGE : 11 * PAGE])
        with pytest.raises(iof.Full):
            cache.get(buf[: 5 * PAGE])
        uses[1].release()
        uses[1] = cache.get(buf[10 * PAGE : 11 * PAGE])
        assert cache.stats().evicted == 1 and world.ioas.stats().mappings == 3
        for use in uses:
            use.release()


def test_invalidated_while_in_use(world):
    buf = field(2)
    with world.ioas.map_cache() as cache:
        use = cache.get(buf)
        assert cache.invalidate(buf) == 1
        world.write(use.iova, b"\x01")
        again = cache.get(buf)
        assert again.iova != use.iova and world.ioas.stats().mappings == 2
        use.release()
        assert world.ioas.stats().mappings == 1
        again.release()


@pytest.mark.parametrize("close", ["ioas", "context"])
def test_the_space_of_a_cache_goes(world, close):
    buf = field(2)
    cache = world.ioas.map_cache(watch=can_watch(world))
    held = weakref.ref(buf)
    cache.get(buf).release()
    use = cache.get(buf)
    if close == "ioas":
        world.dev.detach()
        world.ioas.close()
    else:
        world.ctx.close()
    assert cache.closed
    with pytest.raises(ValueError, match="closed"):
        cache.get(buf)
    with pytest.raises(ValueError):
        _ = use.iova
    use.release()
    use = None
    del buf
    gc.collect()
    assert held() is None


def can_watch(world):
    try:
        world.ioas.map_cache(watch=True).close()
    except OSError:
        return False
    return True


def test_memory_that_goes_is_noticed(world):
    if not can_watch(world):
        pytest.skip("userfaultfd is not allowed here: vm.unprivileged_userfaultfd=1, or more privileges")
    with world.ioas.map_cache(watch=True, keep=False) as cache:
        for _ in range(50):
            memory = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory[0] = 1
            view = np.frombuffer(memory, np.uint8)
            address = view.ctypes.data
            cache.get(view).release()
            before = cache.stats().misses
            cache.get(view).release()
            assert cache.stats().misses == before
            del view
            memory.close()  # and mmap may well put the next one at the same address
            with pytest.raises(iof.BadAddress):
                cache.get(address, PAGE)
        assert cache.is_valid()


def test_threads_get_and_release(world):
    buf, wrong = field(64), []

    def work(seed):
        dice = random.Random(seed)
        try:
            for _ in range(300):
                at, n = dice.randrange(60 * PAGE), dice.randrange(1, 4 * PAGE)
                if dice.random() < 0.1:
                    cache.invalidate(buf[at : at + n])
                    continue
                with cache.get(buf[at : at + n]) as use:
                    if world.ioas.translate([use.iova])[0][0] != buf.ctypes.data + at:
                        wrong.append((at, n))
        except BaseException as error:
            wrong.append(error)

    with world.ioas.map_cache(max_entries=40) as cache:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong and cache.is_valid() and cache.stats().in_use == 0


@pytest.mark.parametrize(
    "wrong", [{"access": "q"}, {"max_bytes": 0}, {"max_entries": 0}, {"max_joined": 0}, {"max_bytes": -1}]
)
def test_wrong_caches(world, wrong):
    with pytest.raises(ValueError):
        world.ioas.map_cache(**wrong)


@pytest.mark.parametrize("keep", [True, False])
def test_a_file_that_shrinks_under_a_cache(world, tmp_path, keep):
    """Truncating is not reported: the entry stays, the device faults; invalidate() has the memory looked at anew."""
    with open(tmp_path / "f", "w+b") as file, world.ioas.map_cache(keep=keep) as cache:
        file.truncate(4 * PAGE)
        memory = mmap.mmap(file.fileno(), 4 * PAGE)
        with cache.get(memory) as use:
            world.write(use.iova, b"here")
            file.truncate(0)
            with pytest.raises(iof.DmaFault):
                world.write(use.iova, b"gone")
        assert cache.invalidate(memory) == 0 and world.ioas.stats().mappings == 0
        with pytest.raises(iof.BadAddress):
            cache.get(memory)
        file.truncate(4 * PAGE)
        with cache.get(memory) as use:
            assert world.read(use.iova, 4) == bytes(4)
        assert cache.is_valid() and cache.stats().misses == 3  # one of them was refused


def test_wrong_gets(world):
    with world.ioas.map_cache() as cache:
        for wrong in [(b"",), (0x1000,), (np.zeros((4, 4))[:, 1],), (b"readonly",), (object(),), (bytearray(4), 5)]:
            with pytest.raises((TypeError, ValueError)):
                cache.get(*wrong)
        with pytest.raises(iof.BadAddress):
            cache.get(PAGE, PAGE)


def test_fork_leaves_the_parent_alone(world):
    buf = field(2)
    arena, cache, array = world.ioas.arena(region=1 << 16), world.ioas.map_cache(), world.ioas.alloc(100)
    taken, use = arena.take(64), cache.get(buf)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            for call in (lambda: arena.take(64), lambda: cache.get(buf), taken.give):
                try:
                    call()
                except iof.ForkedError:
                    continue
                os._exit(2)
            use.release(), cache.close(), arena.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    world.write(use.iova, b"\x01")
    world.write(taken.iova, b"\x02")
    world.write(array.iova, b"\x03")
    assert (buf[0], taken.array[0], array[0]) == (1, 2, 3)
    taken.give(), use.release(), arena.close(), cache.close()


class CacheModel(RuleBasedStateMachine):
    """Whatever was evicted, joined or invalidated: what is in use is mapped to the right memory, and limits hold."""

    uses = Bundle("uses")

    provider = "engine"

    def __init__(self):
        super().__init__()
        self.stack = PROVIDERS[self.provider]()
        self.world = self.stack.__enter__()
        self.field, self.live = field(24), {}

    @initialize(join=st.booleans(), entries=st.integers(2, 12), room=st.integers(8, 40))
    def make(self, join, entries, room):
        self.room, self.entries = room * PAGE, entries
        self.cache = self.world.ioas.map_cache(join=join, max_entries=entries, max_bytes=self.room)

    @rule(target=uses, at=st.integers(0, 23 * PAGE), n=st.integers(1, 6 * PAGE))
    def get(self, at, n):
        buf = self.field[at : at + n]
        try:
            use = self.cache.get(buf)
        except iof.Full:
            assert self.live or (at % PAGE + len(buf)) > self.room - 2 * PAGE
            return None
        self.live[use] = buf
        return use

    @rule(use=consumes(uses))
    def release(self, use):
        if use is not None:
            del self.live[use]
            use.release()
            use.release()

    @rule(at=st.integers(0, 23 * PAGE), n=st.integers(1, 6 * PAGE))
    def invalidate(self, at, n):
        buf = self.field[at : at + n]
        left = self.cache.invalidate(buf)
        assert left <= len(self.live)

    @rule()
    def trim(self):
        self.cache.trim()
        assert self.cache.stats().entries == self.cache.stats().in_use

    @invariant()
    def right(self):
        if not hasattr(self, "cache"):
            return
        stats = self.cache.stats()
        assert self.cache.is_valid() and stats.entries <= self.entries and stats.bytes <= self.room
        assert stats.entries == self.world.ioas.stats().mappings
        for use, buf in self.live.items():
            where = np.array([use.iova, use.iova + len(buf) - 1], np.uint64)
            first = buf.ctypes.data
            assert self.world.ioas.translate(where)[0].tolist() == [first, first + len(buf) - 1]

    def teardown(self):
        for use in self.live:
            use.release()
        if hasattr(self, "cache"):
            self.cache.close()
        self.stack.__exit__(None, None, None)


class KernelCacheModel(CacheModel):
    provider = "kernel"


TestCacheModel, TestKernelCacheModel = CacheModel.TestCase, KernelCacheModel.TestCase
TestCacheModel.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestKernelCacheModel.settings = TestCacheModel.settings
