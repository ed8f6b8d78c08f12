# SPDX-License-Identifier: Apache-2.0
"""IovaSpace with several threads at once, and in a forked child."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest

from iommufd_fast._core.iova import IovaSpace

PAGE = 4096
SIZES = np.array([PAGE, 2 * PAGE, 4 * PAGE, PAGE], dtype=np.uint64)


def churn(space: IovaSpace, seed: int, rounds: int, wrong: list) -> None:
    """Batches that are taken, looked at, and given back; what a thread has, nobody else may have."""
    rng = np.random.default_rng(seed)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(rounds):
        lengths = rng.choice(SIZES, size=int(rng.integers(1, 200)))
        try:
            iovas = space.alloc_many(lengths)
        except OSError as e:
            wrong.append(e)
            return
        starts, lasts = space.find_many(iovas)
        if not (starts == iovas).all() or not (lasts - starts + 1 == lengths).all():
            wrong.append("a batch is not in use as it was taken")
        kept.append((iovas, lengths))
        if len(kept) > 3:
            space.free_many(*kept.pop(int(rng.integers(0, len(kept)))))
    for batch in kept:
        space.free_many(*batch)


@pytest.mark.parametrize("policy", ["recycle", "first_fit"])
def test_batches_of_many_threads(policy):
    wrong: list = []
    with IovaSpace(policy=policy) as space:
        kept = space.alloc_many(np.full(300, PAGE))
        threads = [threading.Thread(target=churn, args=(space, seed, 60, wrong)) for seed in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert len(space) == 300 and space.is_valid()
        assert sorted(start for start, _ in space) == sorted(kept.tolist())
        space.free_many(kept, np.full(300, PAGE))
        space.trim()
        assert len(space) == 0 and space.stats().entries == 0


def test_what_is_in_magazines_is_free_for_all():
    """A thread that has ended had given back everything; another one gets all of it."""
    with IovaSpace() as space:
        space.reserve(0, (1 << 24) - 1)
        space.reserve((1 << 24) + (4 << 20), 2**64 - 1)

        def other():
            space.free_many(space.alloc_many(np.full(100, PAGE)), np.full(100, PAGE))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(space) == 0 and list(space.used()) == []
        got = space.alloc_many(np.full(1024, PAGE))
        assert len(set(got.tolist())) == 1024
        with pytest.raises(OSError) as e:
            space.alloc(PAGE)
        assert e.value.errno == errno.ENOSPC
        space.free_many(got, np.full(1024, PAGE))
        assert space.is_valid()


def test_a_batch_gives_back_what_it_took_when_it_fails():
    with IovaSpace() as space, pytest.raises(OSError, match=r"lengths\[3\]") as e:
        space.alloc_many(np.array([PAGE, PAGE, PAGE, 2**63, PAGE], dtype=np.uint64))
    assert e.value.errno == errno.EOVERFLOW
    with IovaSpace() as space:
        with pytest.raises(OSError):
            space.alloc_many(np.array([PAGE] * 70 + [2**63], dtype=np.uint64))
        assert len(space) == 0 and space.is_valid()


def test_closing_waits_for_batches():
    for _ in range(20):
        space = IovaSpace()
        started = threading.Event()
        errors: list = []

        def work(space=space, started=started, errors=errors):
            try:
                while True:
                    iovas = space.alloc_many(np.full(2000, PAGE))
                    started.set()
                    space.free_many(iovas, np.full(2000, PAGE))
            except ValueError as e:
                errors.append(e)

        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        space.close()
        thread.join()
        assert len(errors) == 1


def test_a_forked_child_has_the_space_as_it_was():
    with IovaSpace() as space:
        stop = threading.Event()
        mine = space.alloc_many(np.full(50, PAGE))

        def work():
            while not stop.is_set():
                space.free_many(space.alloc_many(np.full(500, PAGE)), np.full(500, PAGE))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                pid = os.fork()
                if not pid:
                    ok = False
                    try:
                        space.free_many(mine, np.full(50, PAGE))
                        got = space.alloc_many(np.full(700, PAGE))
                        ok = space.is_valid() and len(set(got.tolist())) == 700 and len(space) <= 700 + 1000
                    finally:
                        os._exit(0 if ok else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert len(space) == 50 and space.is_valid()
