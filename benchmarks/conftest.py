# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the benchmarks: an engine with one attached device, and memory to map.

    make benchmark                     all of them; the run is kept in .benchmarks
    make benchmark ARGS="-k unmap"     some
    make benchmark-compare             the same again, beside the run that was kept last

One file per floor (`test_iova`, `test_pagetable`, `test_pages`, `test_memory`) and one for the whole path
(`test_path`); seeds are fixed, and every benchmark checks what it did. The kernel provider needs a kernel:
`iommufd-fast bench --vm`. Each benchmark names in ``extra_info`` how many operations one of its calls does. The JSON
files hold the machine's facts under ``machine_info``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

import iommufd_fast as iof
from iommufd_fast.bench.compare import FACTS
from iommufd_fast.bench.machine import facts

PAGE = 4096


def pytest_configure(config: pytest.Config) -> None:
    # The machine's load is in it, so it always is, and warnings are errors; what matters of it is said below.
    warnings.filterwarnings("ignore", message="Benchmark machine_info is different")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict) -> None:
    machine_info["iommufd_fast"] = facts()


def pytest_benchmark_compare_machine_info(config: pytest.Config, machine_info: dict, compared_benchmark: dict) -> None:
    """What the two runs differ in and must not, in place of the plugin's own two dictionaries in full."""
    now, then = machine_info["iommufd_fast"], compared_benchmark["machine_info"].get("iommufd_fast", {})
    lines = [f"{name} differs: {then.get(name)} and {now[name]}" for name in FACTS if then.get(name) != now[name]]
    for whose, found in (("the kept", then), ("this", now)):
        if found.get("load_1min", 0) > 1:
            lines.append(f"the machine was busy (load {found['load_1min']:.2f}) when {whose} run began")
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    for line in lines:
        terminal.write_line(f"note: {line}")


class Engine:
    """An IOAS with a device, `live` 4 KiB mappings in it, and 64 MiB of slots to map."""

    def __init__(self, live: int) -> None:
        self.machine = iof.Machine("intel", groups=(1,))
        self.ctx = self.machine.open()
        self.dev = self.ctx.bind(iof.SoftDevice("intel", machine=self.machine))
        self.ioas = self.ctx.ioas()
        self.dev.attach(self.ioas)
        self.memory = np.ones(64 << 20, np.uint8)
        base = -(-int(self.memory.ctypes.data) // PAGE) * PAGE
        self.pages = base + np.arange(4096, dtype=np.uint64) * np.uint64(PAGE)
        skip = base - int(self.memory.ctypes.data)
        self.views = [self.memory[skip + i * PAGE : skip + (i + 1) * PAGE] for i in range(4096)]
        if live:
            self.ioas.map_many(np.resize(self.pages, live), np.full(live, PAGE, np.uint64), trusted=True)

    def leads(self, iovas: object, addresses: object) -> None:
        """Every IOVA translates to its address."""
        found, _ = self.ioas.translate(np.asarray(iovas, np.uint64))
        assert np.array_equal(found, np.asarray(addresses, np.uint64))

    def close(self) -> None:
        self.ctx.close()
        self.machine.close()


@pytest.fixture(params=[0, 20_000], ids=["0-live", "20k-live"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = Engine(request.param)
    yield made
    assert made.ioas.stats().mappings == request.param, "something else is mapped than before the benchmark"
    made.close()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)
