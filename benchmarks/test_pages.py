# SPDX-License-Identifier: Apache-2.0
"""Floor `pages`: PinnedPages, no addresses on a bus. Hold and release; whole, in parts, in batches."""

from __future__ import annotations

import numpy as np
import pytest

from iommufd_fast._core.pages import PinnedPages

PAGE = 4096


@pytest.fixture
def pages():
    """2 MiB of touched memory."""
    with PinnedPages(np.ones(512 * PAGE, np.uint8)) as made:
        yield made


@pytest.mark.parametrize("n", [1, 512])
def test_hold_release(benchmark, pages, n):
    """hold() and release() of n pages from the first on; nobody else holds them."""

    def run():
        for _ in range(100):
            pages.hold(0, n - 1)
            pages.release(0, n - 1)

    benchmark.extra_info["operations"] = 200
    benchmark(run)
    assert pages.holds(0) == 0


def test_hold_release_inside_held(benchmark, pages):
    """The same of one page that the whole already holds."""

    def run():
        for _ in range(100):
            pages.hold(7, 7)
            pages.release(7, 7)

    pages.hold()
    benchmark.extra_info["operations"] = 200
    benchmark(run)
    assert pages.holds(7) == 1
    pages.release()


def test_hold_many(benchmark, pages):
    """hold_many and release_many of every second page, in random order."""
    slots = np.random.default_rng(1).permutation(np.arange(0, 512, 2, dtype=np.uint64))

    def run():
        pages.hold_many(slots, slots)
        pages.release_many(slots, slots)

    benchmark.extra_info["operations"] = 2 * len(slots)
    benchmark(run)
    assert pages.holds(0) == 0


def test_runs(benchmark, pages):
    """runs(): where 512 pages lie."""
    pages.hold()
    benchmark.extra_info["operations"] = 1
    addresses, npages = benchmark(pages.runs)
    assert addresses.tolist() == [pages.address] and npages.sum() == len(pages)
    pages.release()
