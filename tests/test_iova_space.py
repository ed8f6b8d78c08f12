# SPDX-License-Identifier: Apache-2.0
"""IovaSpace against a list that does everything the slow way, then its arguments, threads and batches."""

from __future__ import annotations

import errno
import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iommufd_fast._core.iova import IovaSpace

PAGE = 4096
TOP = 2**64 - 1
WINDOW = 1 << 21
CAP = 1 << 21


def pow2_ceil(n: int) -> int:
    return 1 << (n - 1).bit_length()


class Model:
    """Used, reserved and allowed ranges as plain lists of (start, last)."""

    def __init__(self) -> None:
        self.used: dict[int, int] = {}  # start -> last
        self.lengths: dict[int, int] = {}  # start -> the length asked for
        self.reserved: list[tuple[int, int, int]] = []  # start, last, owner
        self.allowed: list[tuple[int, int]] = []

    def meets_used(self, start: int, last: int) -> bool:
        return any(s <= last and start <= e for s, e in self.used.items())

    def meets_reserved(self, start: int, last: int) -> bool:
        return any(s <= last and start <= e for s, e, _ in self.reserved)

    def holes(self, blocked: list[tuple[int, int]]) -> list[tuple[int, int]]:
        at, out = 0, []
        for start, last in sorted(blocked):
            if start > at:
                out.append((at, start - 1))
            at = max(at, last + 1)
        return [*out, (at, TOP)] if at <= TOP else out

    def free_holes(self) -> list[tuple[int, int]]:
        return self.holes([*self.used.items(), *((s, e) for s, e, _ in self.reserved)])

    def windows(self) -> list[tuple[int, int]]:
        if not self.allowed:
            return [(PAGE, TOP - PAGE)]
        out: list[tuple[int, int]] = []
        for start, last in sorted(self.allowed):
            if out and out[-1][1] + 1 == start:
                out[-1] = (out[-1][0], last)
            else:
                out.append((start, last))
        clipped = [(max(s, PAGE), min(e, TOP - PAGE)) for s, e in out]
        return [(s, e) for s, e in clipped if s <= e]

    def place(self, addr: int, length: int, granule: int) -> int | None:
        """The automatic choice, or None for no room; the caller knows the arguments are fine."""
        want = min(pow2_ceil(length), addr & -addr if addr else CAP, CAP)
        offset = addr % PAGE

        def fit(start: int, last: int) -> int | None:
            at = -(-start // want) * want | offset
            return at if at < last and last - at >= length - 1 else None

        for start, last in self.windows():
            at = fit(start, last)
            if at is None:
                continue
            for hole, end in self.free_holes():
                if hole <= last and end >= at:
                    found = fit(max(hole, at), min(end, last))
                    if found is not None:
                        return found
        return None


lengths = st.one_of(
    st.integers(1, 9 * PAGE), st.integers(1, 3 << 20), st.sampled_from([1, PAGE, CAP, CAP + 1, 1 << 30])
)
places = st.integers(0, 2048)  # in pages, from 0 or from 16 MiB
sizes = st.integers(1, 300)


class SpaceMachine(RuleBasedStateMachine):
    policy = "first_fit"

    @initialize(granule=st.sampled_from([1, 2048, PAGE, 1 << 16]), low=st.booleans(), high=st.booleans())
    def start(self, granule: int, low: bool, high: bool) -> None:
        self.granule = granule
        self.space = IovaSpace(policy=self.policy, granule=granule)
        self.model = Model()
        if low:
            self.reserve_exactly(0, (16 << 20) - 1, 9)
        if high:
            self.reserve_exactly(64 << 20, TOP, 9)

    def teardown(self) -> None:
        if hasattr(self, "space"):
            self.space.close()

    def refused(self, code: int, call: object, *args: object) -> None:
        with pytest.raises(OSError) as info:
            call(*args)  # type: ignore[operator]
        assert info.value.errno == code

    def rounded(self, length: int) -> int:
        return -(-length // self.granule) * self.granule

    def reserve_exactly(self, start: int, last: int, owner: int) -> None:
        if self.model.meets_used(start, last) or any(s <= last and start <= e for s, e in self.model.allowed):
            self.refused(errno.EADDRINUSE, self.space.reserve, start, last, owner)
            return
        self.space.reserve(start, last, owner)
        self.model.reserved.append((start, last, owner))

    @rule(length=lengths, addr=st.one_of(st.just(0), st.integers(1, 2**47)), low_zeros=st.integers(0, 30))
    def alloc(self, length: int, addr: int, low_zeros: int) -> None:
        addr = addr >> low_zeros << low_zeros
        size = self.rounded(length)
        want = min(pow2_ceil(size), addr & -addr if addr else CAP, CAP)
        if want < self.granule:
            with pytest.raises(OSError) as info:
                self.space.alloc(length, align_like=addr)
            assert info.value.errno == errno.EINVAL
            return
        expected = self.model.place(addr, size, self.granule)
        assert self.space.first_hole(length, align_like=addr) == expected
        if expected is None:
            with pytest.raises(OSError) as info:
                self.space.alloc(length, align_like=addr)
            assert info.value.errno == errno.ENOSPC
            return
        assert self.space.alloc(length, align_like=addr) == expected
        self.model.used[expected] = expected + size - 1
        self.model.lengths[expected] = length

    @precondition(lambda self: self.model.used)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        start = data.draw(st.sampled_from(sorted(self.model.used)))
        self.space.free(start, self.model.lengths[start])
        self.refused(errno.ENOENT, self.space.free, start, self.model.lengths[start])
        del self.model.used[start], self.model.lengths[start]

    @precondition(lambda self: self.model.used)
    @rule(data=st.data())
    def free_wrongly(self, data: st.DataObject) -> None:
        start = data.draw(st.sampled_from(sorted(self.model.used)))
        self.refused(errno.ENOENT, self.space.free, start, self.model.lengths[start] + self.granule)
        if start + 1 not in self.model.used:
            self.refused(errno.ENOENT, self.space.free, start + 1, self.model.lengths[start])

    @rule(at=places, n=sizes, far=st.booleans())
    def insert(self, at: int, n: int, far: bool) -> None:
        unit = max(self.granule, PAGE)
        start = at * unit + (16 << 20) * far
        last = start + n * unit - 1
        if self.model.meets_reserved(start, last):
            self.refused(errno.EINVAL, self.space.insert, start, last)
        elif self.model.meets_used(start, last):
            self.refused(errno.EEXIST, self.space.insert, start, last)
        else:
            self.space.insert(start, last)
            self.model.used[start] = last
            self.model.lengths[start] = last - start + 1

    @rule(at=places, n=sizes, far=st.booleans(), owner=st.integers(0, 4))
    def reserve(self, at: int, n: int, far: bool, owner: int) -> None:
        start = at * PAGE + (16 << 20) * far
        self.reserve_exactly(start, start + n * PAGE - 1, owner)

    @rule(owner=st.integers(0, 4))
    def unreserve(self, owner: int) -> None:
        self.space.unreserve(owner)
        self.model.reserved = [r for r in self.model.reserved if r[2] != owner]

    @rule(pairs=st.lists(st.tuples(places, sizes), max_size=4))
    def allow(self, pairs: list[tuple[int, int]]) -> None:
        ranges = [((16 << 20) + a * PAGE, (16 << 20) + (a + n) * PAGE - 1) for a, n in pairs]
        ordered = sorted(ranges)
        if any(a[1] >= b[0] for a, b in itertools.pairwise(ordered)):
            self.refused(errno.EINVAL, self.space.allow, ranges)
        elif any(self.model.meets_reserved(s, e) for s, e in ranges):
            self.refused(errno.EADDRINUSE, self.space.allow, ranges)
        else:
            self.space.allow(ranges)
            self.model.allowed = ranges

    @rule(at=st.one_of(st.integers(0, 96 << 20), st.just(TOP)))
    def find(self, at: int) -> None:
        expected = next(((s, e) for s, e in self.model.used.items() if s <= at <= e), None)
        assert self.space.find(at) == expected
        assert (at in self.space) == (expected is not None)
        start, last = self.space.find_many([at, at])
        assert (int(start[1]), int(last[1])) == (expected or (1, 0))

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "space"):
            return
        assert self.space.is_valid()
        assert len(self.space) == len(self.model.used) == self.space.stats().live
        assert list(self.space) == sorted(self.model.used.items())
        assert self.space.ranges() == self.model.holes([(s, e) for s, e, _ in self.model.reserved])
        assert list(self.space.holes()) == self.model.free_holes()


class RecycleMachine(SpaceMachine):
    """Where recycle puts things is its own affair; that nothing overlaps, and what is left, is not."""

    policy = "recycle"

    def beside_windows(self) -> Model:
        """The model with every window that has a slot taken filled up: the rest is its size class's, or nobody's."""
        model = Model()
        model.allowed, model.reserved = self.model.allowed, self.model.reserved
        model.used = dict(self.model.used)
        for start, last in self.model.used.items():
            if last - start < WINDOW:
                model.used[start // WINDOW * WINDOW] = start // WINDOW * WINDOW + WINDOW - 1
        return model

    @rule(length=lengths, addr=st.just(0), low_zeros=st.just(0))
    def alloc(self, length: int, addr: int, low_zeros: int) -> None:
        try:
            at = self.space.alloc(length)
        except OSError as e:
            assert e.errno == errno.ENOSPC
            size = max(self.rounded(length), PAGE)
            assert self.beside_windows().place(0, size, self.granule) is None or length > PAGE
            return
        found = self.space.find(at)
        assert found is not None and found[0] == at
        last = found[1]
        size = last - at + 1
        assert size >= length and at % min(pow2_ceil(size), CAP) == 0
        assert not self.model.meets_used(at, last) and not self.model.meets_reserved(at, last)
        assert any(s <= at and last <= e for s, e in self.model.windows())
        self.model.used[at], self.model.lengths[at] = last, length

    @precondition(lambda self: self.model.used)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        start = data.draw(st.sampled_from(sorted(self.model.used)))
        self.space.free(start, self.model.lengths[start])
        with pytest.raises(OSError):
            self.space.free(start, self.model.lengths[start])
        del self.model.used[start], self.model.lengths[start]

    @precondition(lambda self: self.model.used)
    @rule(data=st.data())
    def free_wrongly(self, data: st.DataObject) -> None:
        start = data.draw(st.sampled_from(sorted(self.model.used)))
        with pytest.raises(OSError):
            self.space.free(start, self.model.lengths[start] * 2 + WINDOW)

    @rule()
    def trim(self) -> None:
        self.space.trim()

    @rule(at=places, n=sizes, far=st.booleans())
    def insert(self, at: int, n: int, far: bool) -> None:
        self.space.trim()
        unit = max(self.granule, PAGE)
        start = at * unit + (16 << 20) * far
        last = start + n * unit - 1
        clear = not self.model.meets_reserved(start, last) and not self.model.meets_used(start, last)
        try:
            self.space.insert(start, last)
        except OSError as e:
            near = self.model.meets_used(start // WINDOW * WINDOW, last // WINDOW * WINDOW + WINDOW - 1)
            assert e.errno == (errno.EINVAL if self.model.meets_reserved(start, last) else errno.EEXIST)
            assert not clear or near
            return
        assert clear
        self.model.used[start] = last
        self.model.lengths[start] = last - start + 1

    def reserve_exactly(self, start: int, last: int, owner: int) -> None:
        near = self.model.meets_used(start // WINDOW * WINDOW, last // WINDOW * WINDOW + WINDOW - 1)
        clear = not self.model.meets_used(start, last)
        clear = clear and not any(s <= last and start <= e for s, e in self.model.allowed)
        try:
            self.space.reserve(start, last, owner)
        except OSError as e:
            assert e.errno == errno.EADDRINUSE
            assert not clear or near
            return
        assert clear
        self.model.reserved.append((start, last, owner))


TestFirstFit = SpaceMachine.TestCase
TestRecycle = RecycleMachine.TestCase
TestFirstFit.settings = TestRecycle.settings = settings(stateful_step_count=40)
