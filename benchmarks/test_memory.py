# SPDX-License-Identifier: Apache-2.0
"""Memory for drivers: buffers of an arena, the cache of mappings, the IOVA of an array, scatter lists."""

from __future__ import annotations

import numpy as np

PAGE = 4096


def test_arena_take_give(benchmark, engine):
    """arena.take(4096) and give."""
    with engine.ioas.arena(page="4K") as arena:

        def run():
            for _ in range(256):
                arena.take(PAGE).give()

        benchmark.extra_info["operations"] = 256
        benchmark.pedantic(run, rounds=200)
        assert arena.stats().taken == 0


def test_cache_hit(benchmark, engine):
    """cache.get(ndarray) of what is cached, and its release."""
    with engine.ioas.map_cache() as cache:

        def run():
            for view in engine.views[:256]:
                cache.get(view).release()

        run()
        benchmark.extra_info["operations"] = 256
        benchmark.pedantic(run, rounds=200)
        assert cache.stats().misses == 256


def test_iova_of_a_slice(benchmark, engine):
    """array.iova, the question of every I/O."""
    array = engine.ioas.alloc((256, PAGE), page="4K")
    rows = list(array)

    def run():
        for row in rows:
            _ = row.iova

    benchmark.extra_info["operations"] = 256
    benchmark.pedantic(run, rounds=200)
    engine.leads([row.iova for row in rows], [row.ctypes.data for row in rows])


def test_map_sg(benchmark, engine):
    """ioas.map_sg of 64 pages, and unmapping them."""
    lot = engine.views[: 2 * 64 : 2]
    with engine.ioas.map_sg(lot) as mapping:
        engine.leads([mapping.iova + i * PAGE for i in range(64)], engine.pages[: 2 * 64 : 2])
    benchmark.extra_info["operations"] = 64
    benchmark.pedantic(lambda: engine.ioas.map_sg(lot).close(), rounds=200)


def test_alloc(benchmark, engine):
    """ioas.alloc of a page, and freeing it."""
    benchmark.extra_info["operations"] = 1
    benchmark.pedantic(lambda: engine.ioas.alloc(PAGE, np.uint8), rounds=500)
