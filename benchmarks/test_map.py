# SPDX-License-Identifier: Apache-2.0
"""map: one buffer, one address, batches; and straight into a page table."""

from __future__ import annotations

import numpy as np
import pytest

from iommufd_fast._core.pagetable import PageTable

PAGE = 4096


def test_map_buffer(benchmark, engine):
    """ioas.map(ndarray): what a driver's author writes."""
    made = []

    def undo():
        for m in made:
            m.close()
        made.clear()
        return (engine.views[:256],), {}

    def run(views):
        for view in views:
            made.append(engine.ioas.map(view))

    benchmark.extra_info["operations"] = 256
    benchmark.pedantic(run, setup=undo, rounds=200)
    undo()


def test_map_address(benchmark, engine):
    """ioas.map(address, length, trusted=True)."""
    made, addresses = [], engine.pages[:256].tolist()

    def undo():
        for m in made:
            m.close()
        made.clear()

    def run():
        for address in addresses:
            made.append(engine.ioas.map(address, PAGE, trusted=True))

    benchmark.extra_info["operations"] = 256
    benchmark.pedantic(run, setup=undo, rounds=200)
    undo()


@pytest.mark.parametrize("n", [16, 512])
def test_map_many(benchmark, engine, n):
    """ioas.map_many of n pages."""
    addresses, lengths, made = engine.pages[:n], np.full(n, PAGE, np.uint64), []

    def undo():
        for iovas in made:
            engine.ioas.unmap_many(iovas, lengths)
        made.clear()

    benchmark.extra_info["operations"] = n
    benchmark.pedantic(
        lambda: made.append(engine.ioas.map_many(addresses, lengths, trusted=True)), setup=undo, rounds=500
    )
    undo()


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
