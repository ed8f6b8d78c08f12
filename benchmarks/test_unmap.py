# SPDX-License-Identifier: Apache-2.0
"""unmap: handles, addresses, batches; and from a page table."""

from __future__ import annotations

import numpy as np
import pytest

from iommufd_fast._core.pagetable import PageTable

PAGE = 4096


def test_close_mapping(benchmark, engine):
    """mapping.close()."""

    def run(mappings):
        for m in mappings:
            m.close()

    benchmark.extra_info["operations"] = 256
    benchmark.pedantic(run, setup=lambda: (([engine.ioas.map(v) for v in engine.views[:256]],), {}), rounds=200)


def test_unmap_range(benchmark, engine):
    """ioas.unmap(iova, length)."""
    lengths = np.full(256, PAGE, np.uint64)

    def setup():
        return (engine.ioas.map_many(engine.pages[:256], lengths, trusted=True).tolist(),), {}

    def run(iovas):
        for iova in iovas:
            engine.ioas.unmap(iova, PAGE)

    benchmark.extra_info["operations"] = 256
    benchmark.pedantic(run, setup=setup, rounds=200)


@pytest.mark.parametrize("n", [16, 512])
def test_unmap_many(benchmark, engine, n):
    """ioas.unmap_many of n pages."""
    lengths = np.full(n, PAGE, np.uint64)

    def setup():
        return (engine.ioas.map_many(engine.pages[:n], lengths, trusted=True), lengths), {}

    benchmark.extra_info["operations"] = n
    errors = benchmark.pedantic(engine.ioas.unmap_many, setup=setup, rounds=500)
    assert not errors.any()


def test_unmap_one_range_over_many_maps(benchmark, engine):
    """One call that removes 512 neighbouring mappings, as kernels do after a scatter list."""
    lengths, at = np.full(512, PAGE, np.uint64), 1 << 40
    iovas = at + np.arange(512, dtype=np.uint64) * np.uint64(PAGE)

    def setup():
        engine.ioas.map_many(engine.pages[:512], lengths, iovas=iovas, trusted=True)
        return (at, 512 * PAGE), {}

    benchmark.extra_info["operations"] = 512
    assert benchmark.pedantic(engine.ioas.unmap, setup=setup, rounds=300) == 512 * PAGE


@pytest.mark.parametrize("pages", [1, 512])
def test_pagetable_unmap(benchmark, pages):
    """PageTable.unmap of 4 KiB, and of 2 MiB by 4 KiB leaves."""
    table = PageTable("vtdss", page_sizes=[PAGE])

    def setup():
        table.map(0, 1 << 30, pages * PAGE)
        return (0, pages * PAGE), {}

    benchmark.extra_info["operations"] = 1
    assert benchmark.pedantic(table.unmap, setup=setup, rounds=2000) == pages * PAGE
