# SPDX-License-Identifier: Apache-2.0
"""walk: one IOVA, many, warm and random; through an IOAS and in a bare table."""

from __future__ import annotations

import numpy as np
import pytest

from iommufd_fast._core.pagetable import PageTable

PAGE, GIB = 4096, 1 << 30


@pytest.fixture(scope="module")
def table():
    """1 GiB by 4 KiB leaves."""
    made = PageTable("vtdss", page_sizes=[PAGE])
    made.map(0, 1 << 40, GIB)
    assert made.stats().leaves == {PAGE: GIB // PAGE}
    return made


def test_pagetable_translate(benchmark, table):
    """PageTable.translate of one IOVA, warm."""
    benchmark.extra_info["operations"] = 1
    assert benchmark(table.translate, 5 * PAGE + 7) == (1 << 40) + 5 * PAGE + 7


@pytest.mark.parametrize("where", ["warm", "random"])
def test_pagetable_translate_many(benchmark, table, rng, where):
    """PageTable.translate_many of 4096 IOVAs: of one page, or anywhere in the GiB."""
    iovas = rng.integers(0, PAGE if where == "warm" else GIB, 4096).astype(np.uint64)
    benchmark.extra_info["operations"] = 4096
    addresses, _ = benchmark(table.translate_many, iovas)
    assert np.array_equal(addresses, iovas + np.uint64(1 << 40))


def test_pagetable_walk(benchmark, table):
    """PageTable.walk: the leaf with its size and permissions."""
    benchmark.extra_info["operations"] = 1
    assert benchmark(table.walk, 5 * PAGE).size == PAGE


def test_ioas_translate_one(benchmark, engine):
    """ioas.translate_one."""
    mapping = engine.ioas.map(engine.views[0])
    benchmark.extra_info["operations"] = 1
    assert benchmark(engine.ioas.translate_one, mapping.iova) == mapping.address
    mapping.close()


def test_ioas_translate(benchmark, engine, rng):
    """ioas.translate of 4096 IOVAs in random order."""
    iovas = engine.ioas.map_many(engine.pages, np.full(4096, PAGE, np.uint64), trusted=True)
    order = rng.permutation(4096)
    benchmark.extra_info["operations"] = 4096
    addresses, _ = benchmark(engine.ioas.translate, iovas[order])
    assert np.array_equal(addresses, engine.pages[order])
