# SPDX-License-Identifier: Apache-2.0
"""The whole path: an IOAS with an attached device. Map, unmap, translate, DMA; by handle, by address, in batches."""

from __future__ import annotations

import numpy as np
import pytest

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
    engine.leads([m.iova for m in made], engine.pages[:256])
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
    engine.leads([m.iova for m in made], addresses)
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
    engine.leads(made[-1], addresses)
    undo()


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
    assert not engine.ioas.unmap_many(iovas, np.full(4096, PAGE, np.uint64)).any()


@pytest.mark.parametrize("size", [64, 4096, 65536])
def test_dma_write(benchmark, engine, size):
    """dev.dma_write into one live mapping, through the page table and the IOTLB."""
    data = b"\xa5" * size
    with engine.ioas.map(engine.memory[: 1 << 20]) as mapping:
        benchmark.extra_info["operations"] = 1
        benchmark(engine.dev.dma_write, mapping.iova, data)
        assert bytes(engine.memory[:size]) == data
