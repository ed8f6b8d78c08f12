# SPDX-License-Identifier: Apache-2.0
"""The C path: what a program pays that calls iof_ioctl() on prepared structs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iommufd_fast._core import benchloop, benchrig

from .clock import Clock
from .matrix import Case
from .paths import OPS, DmaProof, Times, looks
from .stats import correct
from .work import Live, Work


class CPath(DmaProof):
    """iof_ioctl(), iof_map_many() and friends in a C loop."""

    def __init__(self, case: Case, clock: Clock) -> None:
        self.clock = clock
        tsc = clock.name.startswith("time stamp")
        self.rig = benchrig.Rig(case.preset, case.policy, case.page == "auto", tsc)

    def _times(self, ticks: tuple[NDArray[np.uint64], ...], ops: tuple[str, ...], overhead: float) -> Times:
        return {op: correct(self.clock.ns(t), overhead) for op, t in zip(ops, ticks, strict=True)}

    def fill(self, live: Live) -> None:
        if len(live.addresses):
            live.iovas[:] = self.rig.fill(live.addresses, live.lengths)

    def pair(self, work: Work, live: Live, n: int, rng: np.random.Generator) -> Times:
        ticks = benchloop.pair(self.rig, work.cycle(n), work.length, *looks(live, n, rng))
        return self._times(ticks, OPS, self.clock.overhead_ns)

    def churn(self, live: Live, n: int, rng: np.random.Generator) -> Times:
        order = rng.integers(0, len(live.iovas), n).astype(np.uint64)
        ticks = benchloop.churn(self.rig, live.iovas, live.addresses, order, 4096)
        return self._times(ticks, ("map", "unmap"), self.clock.overhead_ns)

    def burst(self, work: Work, live: Live, n: int, size: int, rng: np.random.Generator) -> Times:
        seek = looks(live, n * size, rng)
        return self._times(benchloop.burst(self.rig, work.cycle(n * size), work.length, size, *seek), OPS, 0.0)

    def batch(self, work: Work, n: int, size: int) -> Times:
        lengths = np.full(n * size, work.length, np.uint64)
        return self._times(benchloop.batch(self.rig, work.cycle(n * size), lengths, size), OPS, self.clock.overhead_ns)

    def map_one(self, work: Work) -> int:
        return int(self.rig.fill(work.addresses[:1], np.array([work.length], np.uint64))[0])

    def unmap_one(self, iova: int, work: Work) -> None:
        self.rig.unmap(iova, work.length)

    def dma(self, iova: int, buffer: bytearray, write: bool) -> None:
        self.rig.dma(iova, buffer, write)

    def translate(self, iovas: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return self.rig.translate(iovas)

    def leaves(self) -> dict[int, int]:
        return self.rig.leaves

    def close(self) -> None:
        del self.rig
