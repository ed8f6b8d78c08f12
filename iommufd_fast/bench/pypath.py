# SPDX-License-Identifier: Apache-2.0
"""The Python path: what a program pays that uses the control plane."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

import iommufd_fast as iof

from .clock import Clock
from .matrix import Case
from .paths import OPS, DmaProof, Times, WrongAnswer, looks
from .stats import correct
from .work import Live, Work

_HANDLES = 4096  # churn works on as many of the live mappings


@contextmanager
def _no_gc() -> Iterator[None]:
    """The collector rests while single calls are timed, as timeit does it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class PythonPath(DmaProof):
    """ioas.map(buffer), ioas.translate_one(), mapping.close(), and the batches over NumPy arrays."""

    def __init__(self, case: Case, clock: Clock) -> None:
        self.clock = clock
        self.machine = iof.Machine(case.preset, groups=(1,), policy=case.policy)
        self.policy = case.policy
        self.ctx = self.machine.open()
        self.dev = self.ctx.bind(iof.SoftDevice(case.preset, machine=self.machine))
        self.ioas = self.ctx.ioas()
        self.ioas.huge_pages = case.page == "auto"
        self.hwpt = self.dev.attach(self.ioas)
        self.handles: list[iof.Mapping] = []
        self.slots: list[Any] = []
        self.indexes: list[int] = []
        self.single: iof.Mapping | None = None

    def fill(self, live: Live) -> None:
        if len(live.addresses):
            live.iovas[:] = self.ioas.map_many(live.addresses, live.lengths, policy=self.policy)

    def pair(self, work: Work, live: Live, n: int, rng: np.random.Generator) -> Times:
        look_iovas, look_addresses = (a.tolist() for a in looks(live, n, rng))
        own = work.cycle(n).tolist()
        times = {op: [0] * n for op in OPS}
        tm, tt, tu = times.values()
        map_, translate, now = self.ioas.map, self.ioas.translate_one, perf_counter_ns
        with _no_gc():
            for i, view in enumerate(work.buffers(n)):
                t0 = now()
                mapping = map_(view)
                t1 = now()
                iova = look_iovas[i] or mapping.iova
                t2 = now()
                got = translate(iova)
                t3 = now()
                if got != (look_addresses[i] or own[i]):
                    raise WrongAnswer(f"IOVA {iova:#x} translates to {got:#x}, not to the memory that was mapped")
                t4 = now()
                mapping.close()
                t5 = now()
                tm[i], tt[i], tu[i] = t1 - t0, t3 - t2, t5 - t4
        return self._corrected(times)

    def _corrected(self, times: dict[str, list[int]]) -> Times:
        return {op: correct(np.array(t, np.float64), self.clock.overhead_ns) for op, t in times.items()}

    def _take_handles(self, live: Live, rng: np.random.Generator) -> None:
        """Some of the live mappings, spread over all, become Mapping handles."""
        base = live.region.address
        for j in rng.permutation(len(live.iovas))[:_HANDLES].tolist():
            offset = int(live.addresses[j]) - base
            view: Any = live.region.bytes[offset : offset + 4096]
            self.ioas.unmap(int(live.iovas[j]), 4096)
            mapping = self.ioas.map(view)
            live.iovas[j] = mapping.iova
            self.indexes.append(j)
            self.slots.append(view)
            self.handles.append(mapping)

    def churn(self, live: Live, n: int, rng: np.random.Generator) -> Times:
        if not self.handles:
            self._take_handles(live, rng)
        tm, tu = [0] * n, [0] * n
        handles, slots, map_, now = self.handles, self.slots, self.ioas.map, perf_counter_ns
        with _no_gc():
            for i, j in enumerate(rng.integers(0, len(handles), n).tolist()):
                view, mapping = slots[j], handles[j]
                t0 = now()
                mapping.close()
                t1 = now()
                t2 = now()
                mapping = map_(view)
                t3 = now()
                handles[j] = mapping
                tu[i], tm[i] = t1 - t0, t3 - t2
        live.iovas[self.indexes] = [m.iova for m in handles]
        return self._corrected({"map": tm, "unmap": tu})

    def burst(self, work: Work, live: Live, n: int, size: int, rng: np.random.Generator) -> Times:
        views, own = work.buffers(size), work.cycle(size).tolist()
        times = {op: [0] * n for op in OPS}
        tm, tt, tu = times.values()
        map_, translate, now = self.ioas.map, self.ioas.translate_one, perf_counter_ns
        with _no_gc():
            for i in range(n):
                t0 = now()
                mappings = [map_(view) for view in views]
                t1 = now()
                ask, want = (a.tolist() for a in looks(live, size, rng))
                ask = ask if ask[0] else [m.iova for m in mappings]
                t2 = now()
                seen = [translate(iova) for iova in ask]
                t3 = now()
                for m in mappings:
                    m.close()
                t4 = now()
                if seen != (want if want[0] else own):
                    raise WrongAnswer(f"a burst of {size} maps translates to other memory")
                tm[i], tt[i], tu[i] = t1 - t0, t3 - t2, t4 - t3
        return {op: np.array(t, np.float64) for op, t in times.items()}

    def batch(self, work: Work, n: int, size: int) -> Times:
        addresses, lengths = work.cycle(size), np.full(size, work.length, np.uint64)
        times = {op: [0] * n for op in OPS}
        tm, tt, tu = times.values()
        ioas, policy, now = self.ioas, self.policy, perf_counter_ns
        with _no_gc():
            for i in range(n):
                t0 = now()
                iovas = ioas.map_many(addresses, lengths, policy=policy)
                t1 = now()
                seen, _ = ioas.translate(iovas)
                t2 = now()
                errors = ioas.unmap_many(iovas, lengths)
                t3 = now()
                if errors.any() or not np.array_equal(seen, addresses):
                    raise WrongAnswer(f"a batch of {size} maps translates to other memory, or did not unmap")
                tm[i], tt[i], tu[i] = t1 - t0, t2 - t1, t3 - t2
        return self._corrected(times)

    def map_one(self, work: Work) -> int:
        self.single = self.ioas.map(work.views[0])
        return self.single.iova

    def unmap_one(self, iova: int, work: Work) -> None:
        assert self.single is not None
        self.single.close()

    def dma(self, iova: int, buffer: bytearray, write: bool) -> None:
        if write:
            self.dev.dma_write(iova, buffer)
        else:
            self.dev.dma_read_into(iova, buffer)

    def translate(self, iovas: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return self.ioas.translate(iovas)[0]

    def leaves(self) -> dict[int, int]:
        return dict(self.hwpt.stats().leaves)

    def close(self) -> None:
        for mapping in self.handles:
            mapping.close()
        self.ctx.close()
        self.machine.close()
