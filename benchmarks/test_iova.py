# SPDX-License-Identifier: Apache-2.0
"""Floor `iova`: IovaSpace, nothing mapped. Both policies, dense and full of holes, one and many."""

from __future__ import annotations

import numpy as np
import pytest

from iommufd_fast._core.iova import IovaSpace

PAGE = 4096
POLICIES = ["recycle", "first_fit"]


@pytest.fixture(params=[0, 20_000, 1_000_000], ids=["0-live", "20k-live", "1m-live"])
def live(request):
    return request.param


def space(policy: str, live: int) -> tuple[IovaSpace, np.ndarray]:
    made = IovaSpace(policy=policy)
    return made, made.alloc_many(np.full(live, PAGE, np.uint64))


@pytest.mark.parametrize("policy", POLICIES)
def test_alloc_free(benchmark, policy, live):
    """alloc(4096) and free() of the same."""
    made, _ = space(policy, live)

    def run():
        for _ in range(100):
            made.free(made.alloc(PAGE), PAGE)

    benchmark.extra_info["operations"] = 200
    benchmark(run)
    assert len(made) == live


@pytest.mark.parametrize("policy", POLICIES)
def test_free_and_alloc_anywhere(benchmark, policy, live, rng):
    """free() of a random live one, then alloc(): holes all over."""
    if not live:
        pytest.skip("nothing to free")
    made, iovas = space(policy, live)
    order = rng.integers(0, live, 256).tolist()
    held = iovas.tolist()

    def run():
        for i in order:
            made.free(held[i], PAGE)
            held[i] = made.alloc(PAGE)

    benchmark.extra_info["operations"] = 512
    benchmark(run)
    assert len(made) == live


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("n", [16, 512])
def test_alloc_many(benchmark, policy, n):
    """alloc_many and free_many of n pages."""
    made, _ = space(policy, 20_000)
    lengths = np.full(n, PAGE, np.uint64)
    benchmark.extra_info["operations"] = 2 * n
    benchmark(lambda: made.free_many(made.alloc_many(lengths), lengths))
    assert len(made) == 20_000


def test_lookup(benchmark, live, rng):
    """find_many of 4096 IOVAs, random."""
    made, iovas = space("recycle", max(live, 1))
    asked = rng.choice(iovas, 4096)
    benchmark.extra_info["operations"] = 4096
    starts, lasts = benchmark(made.find_many, asked)
    assert np.array_equal(starts, asked) and np.array_equal(lasts, asked + np.uint64(PAGE - 1))
