# SPDX-License-Identifier: Apache-2.0
"""What the two ways into the engine (cpath, pypath) have in common. Both have the same verbs, so run.py does not
care which it drives.

Each verb returns nanoseconds per call as float arrays by operation, clock overhead subtracted for single calls.
Each checks what the engine did; a wrong answer raises and no figure comes out.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .clock import Clock
from .matrix import Case
from .work import Live, Work

Times = dict[str, NDArray[np.float64]]
OPS = ("map", "translate", "unmap")


class WrongAnswer(AssertionError):
    """The engine answered, and the answer is not true. Never swallowed."""


class Path(Protocol):
    """What run.py needs of a way into the engine."""

    def __init__(self, case: Case, clock: Clock) -> None: ...
    def fill(self, live: Live) -> None: ...
    def pair(self, work: Work, live: Live, n: int, rng: np.random.Generator) -> Times: ...
    def churn(self, live: Live, n: int, rng: np.random.Generator) -> Times: ...
    def burst(self, work: Work, live: Live, n: int, size: int, rng: np.random.Generator) -> Times: ...
    def batch(self, work: Work, n: int, size: int) -> Times: ...
    def map_one(self, work: Work) -> int: ...
    def unmap_one(self, iova: int, work: Work) -> None: ...
    def prove(self, iova: int, view: NDArray[np.uint8], offset: int, rng: np.random.Generator) -> None: ...
    def translate(self, iovas: NDArray[np.uint64]) -> NDArray[np.uint64]: ...
    def leaves(self) -> dict[int, int]: ...
    def close(self) -> None: ...


class DmaProof:
    """That a mapping leads to its memory, shown by DMA of 64 bytes each way."""

    def dma(self, iova: int, buffer: bytearray, write: bool) -> None:
        raise NotImplementedError

    def prove(self, iova: int, view: NDArray[np.uint8], offset: int, rng: np.random.Generator) -> None:
        """The device's bytes land in `view` at `offset`, and it reads what is there; else WrongAnswer."""
        sent, got = bytearray(rng.bytes(64)), bytearray(64)
        here = view[offset : offset + 64]
        self.dma(iova + offset, sent, True)
        if bytes(here) != bytes(sent):
            raise WrongAnswer(f"what the device wrote at {offset:#x} is not in memory")
        here ^= 0xFF
        self.dma(iova + offset, got, False)
        if bytes(here) != bytes(got):
            raise WrongAnswer(f"the device read other bytes at {offset:#x} than memory has")


def looks(live: Live, n: int, rng: np.random.Generator) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """What to translate: random live mappings, or (0) the one just made when nothing else lives."""
    if not len(live.iovas):
        return np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    pick = rng.integers(0, len(live.iovas), n)
    return live.iovas[pick], live.addresses[pick]
