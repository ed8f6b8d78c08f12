# SPDX-License-Identifier: Apache-2.0
"""IovaSpace: wrong arguments, batches, threads, closing."""

from __future__ import annotations

import errno
import itertools
import threading

import numpy as np
import pytest

from iommufd_fast._core.iova import IovaSpace, IovaStats

PAGE = 4096
NOT_INTEGERS = [1.0, 4096.5, "4096", None, True, np.float64(4096), [4096], b"x"]
NOT_U64 = [-1, -(2**70), 2**64, 2**100]


@pytest.fixture(params=["recycle", "first_fit"])
def space(request: pytest.FixtureRequest) -> IovaSpace:
    return IovaSpace(policy=request.param)


@pytest.mark.parametrize("bad", NOT_INTEGERS)
def test_what_is_not_an_integer_is_a_type_error(space: IovaSpace, bad: object) -> None:
    for call in (
        lambda: space.alloc(bad),
        lambda: space.alloc(PAGE, align_like=bad),
        lambda: space.free(bad, PAGE),
        lambda: space.free(PAGE, bad),
        lambda: space.insert(bad, PAGE),
        lambda: space.reserve(0, bad),
        lambda: space.reserve(0, 1, bad),
        lambda: space.unreserve(bad),
        lambda: space.allow([(bad, 5)]),
        lambda: space.find(bad),
        lambda: space.used(bad),
        lambda: bad in space,
        lambda: space.first_hole(bad),
        lambda: IovaSpace(granule=bad),
    ):
        with pytest.raises(TypeError, match="must be an integer"):
            call()
    assert space.is_valid() and len(space) == 0


@pytest.mark.parametrize("bad", NOT_U64)
def test_what_does_not_fit_64_bits_is_a_value_error(space: IovaSpace, bad: int) -> None:
    for name, call in (
        ("length", lambda: space.alloc(bad)),
        ("align_like", lambda: space.alloc(PAGE, align_like=bad)),
        ("iova", lambda: space.free(bad, PAGE)),
        ("start", lambda: space.insert(bad, PAGE)),
        ("last", lambda: space.reserve(0, bad)),
        ("owner", lambda: space.unreserve(bad)),
        ("iova", lambda: space.find(bad)),
    ):
        with pytest.raises(ValueError, match=rf"^{name} is {bad};"):
            call()


def test_integers_of_other_kinds_are_integers(space: IovaSpace) -> None:
    at = space.alloc(np.int16(PAGE))
    assert np.uint64(at) in space
    space.free(np.uint64(at), np.int32(PAGE))


def test_zero_and_backwards(space: IovaSpace) -> None:
    for call in (lambda: space.alloc(0), lambda: space.free(PAGE, 0), lambda: space.insert(2 * PAGE, PAGE - 1)):
        with pytest.raises(ValueError, match=r"length|above"):
            call()
    with pytest.raises(ValueError, match="granule"):
        space.insert(1, PAGE)
    with pytest.raises(ValueError, match="granule"):
        space.insert(0, PAGE)
    for granule in (0, 3, 4097, 1 << 22):
        with pytest.raises(ValueError, match="granule"):
            IovaSpace(granule=granule)
    with pytest.raises(ValueError, match="policy"):
        IovaSpace(policy="best_fit")
    with pytest.raises(TypeError):
        IovaSpace("first_fit")


def test_lengths_that_no_space_has(space: IovaSpace) -> None:
    for length in (2**63 - 1, 2**63, 2**64 - 1):
        with pytest.raises(OSError) as info:
            space.alloc(length)
        assert info.value.errno == errno.EOVERFLOW
    with pytest.raises(OSError) as info:
        space.free(2**64 - PAGE, 2 * PAGE)
    assert info.value.errno in (errno.EINVAL, errno.ENOENT)
    with pytest.raises(OSError) as info:
        space.alloc(PAGE, align_like=0x5800)
    assert info.value.errno == errno.EINVAL


def test_ends_of_the_space(space: IovaSpace) -> None:
    top = 2**64 - 1
    space.insert(top - PAGE + 1, top)
    space.insert(0, PAGE - 1)
    assert list(space) == [(0, PAGE - 1), (top - PAGE + 1, top)]
    assert list(space.holes()) == [(PAGE, top - PAGE)]
    assert space.find(top) == (top - PAGE + 1, top)
    assert list(space.used(top, top)) == [(top - PAGE + 1, top)]
    space.free(top - PAGE + 1, PAGE)
    space.reserve(top, top, 3)
    assert space.ranges() == [(0, top - 1)]
    assert space.is_valid()


def test_alloc_many_is_all_or_nothing(space: IovaSpace) -> None:
    space.reserve(0, (1 << 24) - 1)
    space.reserve(1 << 25, 2**64 - 1)
    lengths = np.full(100, PAGE, dtype=np.uint64)
    first = space.alloc_many(lengths)
    assert first.dtype == np.uint64 and len(set(first.tolist())) == 100 == len(space)
    before = list(space)
    with pytest.raises(OSError, match=r"lengths\[") as info:
        space.alloc_many([PAGE] * 5000)
    assert info.value.errno == errno.ENOSPC
    assert list(space) == before and space.is_valid()
    with pytest.raises(OSError):
        space.alloc_many([PAGE, 0])
    assert list(space) == before
    space.free_many(first, lengths)
    assert len(space) == 0


def test_free_many_goes_on_and_says_where(space: IovaSpace) -> None:
    at = space.alloc_many([PAGE] * 10)
    at[3] = 1 << 60
    with pytest.raises(OSError, match=r"1 of 10 refused, the first iovas\[3\]") as info:
        space.free_many(at, [PAGE] * 10)
    assert info.value.errno == errno.ENOENT
    assert len(space) == 1
    with pytest.raises(ValueError, match="as many"):
        space.free_many(at, [PAGE])


def test_arrays(space: IovaSpace) -> None:
    assert len(space.alloc_many([])) == 0
    for bad in ([1.5], np.array([4096.0]), ["x"], [None]):
        with pytest.raises(TypeError, match="integers"):
            space.alloc_many(bad)
    with pytest.raises(ValueError, match="lengths holds -1"):
        space.alloc_many(np.array([4096, -1]))
    with pytest.raises(ValueError, match="dimensions"):
        space.alloc_many([[PAGE]])
    wide = np.full(40, PAGE, dtype=np.uint64)
    at = space.alloc_many(wide[::2])  # strided
    start, last = space.find_many(at.astype(np.int64) + PAGE - 1)
    assert (start == at).all() and (last == at + np.uint64(PAGE - 1)).all()
    start, last = space.find_many(np.full(200, 1 << 60, dtype=np.uint64))
    assert (start == 1).all() and (last == 0).all()


def test_find_many_in_a_large_space() -> None:
    with IovaSpace(policy="first_fit") as space:
        rng = np.random.default_rng(1)
        lengths = rng.integers(1, 9, 5000) * PAGE
        at = space.alloc_many(lengths)
        drop = rng.permutation(5000)[:2000]
        space.free_many(at[drop], lengths[drop])
        probe = rng.integers(0, int(at.max()) + 10 * PAGE, 20000)
        start, last = space.find_many(probe)
        for p, s, e in zip(probe.tolist(), start.tolist(), last.tolist(), strict=True):
            assert (space.find(p) or (1, 0)) == (s, e)
        assert space.is_valid()


def test_recycle_hands_out_what_was_freed() -> None:
    space = IovaSpace()
    at = [space.alloc(3 * PAGE) for _ in range(64)]
    assert all(a % (4 * PAGE) == 0 for a in at) and len(set(at)) == 64
    space.free(at[17], 3 * PAGE)
    with pytest.raises(OSError) as info:
        space.free(at[17], 3 * PAGE)
    assert info.value.errno == errno.EINVAL
    assert space.alloc(4 * PAGE) == at[17]
    assert space.stats().entries == 1  # one window


def test_stats_and_repr(space: IovaSpace) -> None:
    at = space.alloc_many([PAGE] * 1000)
    st = space.stats()
    assert isinstance(st, IovaStats)
    assert st.live == 1000 and st.entries >= 1 and st.height >= 1
    assert 0 < st.index_bytes < st.memory_bytes
    assert "live=1000" in repr(space)
    space.free_many(at, [PAGE] * 1000)
    with pytest.raises(AttributeError):
        st.live = 3  # type: ignore[misc]


def test_closed(space: IovaSpace) -> None:
    space.alloc(PAGE)
    with space:
        pass
    space.close()
    walk = [
        lambda: space.alloc(PAGE),
        lambda: space.free(0, PAGE),
        lambda: len(space),
        lambda: list(space),
        space.ranges,
    ]
    walk += [lambda: space.find_many([1]), lambda: space.alloc_many([1]), space.stats, space.is_valid, space.trim]
    walk += [lambda: space.reserve(0, 1), lambda: space.unreserve(0), lambda: space.allow([]), lambda: 5 in space]
    for call in walk:
        with pytest.raises(ValueError, match="closed"):
            call()
    assert "closed" in repr(space)


def test_threads(space: IovaSpace) -> None:
    """Single calls and batches of several threads at once: nobody gets what another has."""
    got: list[list[tuple[int, int]]] = [[] for _ in range(4)]
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(k: int) -> None:
        rng = np.random.default_rng(k)
        try:
            for step in range(150):
                lengths = rng.integers(1, 5, 200) * PAGE
                at = space.alloc_many(lengths)
                one = space.alloc(PAGE)
                assert space.find(one) is not None
                if step % 3:
                    space.free_many(at, lengths)
                else:
                    got[k] += list(zip(at.tolist(), lengths.tolist(), strict=True))
                space.free(one, PAGE)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        for _ in space.used():
            if stop.is_set():
                break
        assert space.is_valid()
    for t in threads:
        t.join()
    assert not failures
    mine = sorted((a, a + n - 1) for g in got for a, n in g)
    assert len(mine) == 4 * 50 * 200 == len(space)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(mine))
    for (start, _), used in zip(mine, space, strict=True):
        assert used[0] == start
