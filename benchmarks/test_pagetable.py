# SPDX-License-Identifier: Apache-2.0
"""Floor `pagetable`: PageTable without an address space. Map, unmap, walk; one and many, warm and random."""

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


@pytest.mark.parametrize("pages", [1, 512])
def test_pagetable_map(benchmark, pages):
    """PageTable.map of 4 KiB, and of 2 MiB by 4 KiB leaves."""
    table = PageTable("vtdss", page_sizes=[PAGE])
    table.map(0, 1 << 30, pages * PAGE)
    assert table.stats().leaves == {PAGE: pages}
    benchmark.extra_info["operations"] = 1
    benchmark.pedantic(
        table.map, setup=lambda: (table.unmap(0, pages * PAGE), ((0, 1 << 30, pages * PAGE), {}))[1], rounds=2000
    )


def test_pagetable_map_many(benchmark):
    """PageTable.map_many of 512 pages."""
    table = PageTable("vtdss")
    iovas = np.arange(512, dtype=np.uint64) * np.uint64(2 * PAGE)
    benchmark.extra_info["operations"] = 512
    benchmark.pedantic(
        table.map_many,
        setup=lambda: (table.unmap_many(iovas, PAGE), ((iovas, iovas + np.uint64(1 << 30), PAGE), {}))[1],
        rounds=1000,
    )
    assert table.stats().leaves == {PAGE: 512}


@pytest.mark.parametrize("pages", [1, 512])
def test_pagetable_unmap(benchmark, pages):
    """PageTable.unmap of 4 KiB, and of 2 MiB by 4 KiB leaves."""
    table = PageTable("vtdss", page_sizes=[PAGE])

    def setup():
        table.map(0, 1 << 30, pages * PAGE)
        return (0, pages * PAGE), {}

    benchmark.extra_info["operations"] = 1
    assert benchmark.pedantic(table.unmap, setup=setup, rounds=2000) == pages * PAGE


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
