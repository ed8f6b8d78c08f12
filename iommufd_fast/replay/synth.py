# SPDX-License-Identifier: Apache-2.0
"""The second sample trace: a network card's receive rings, made by rule, with 12 288 buffers and more live at any time.

The recorded NVMe trace keeps few mappings alive; this one keeps many. It is synthetic and says so in its own
header. The model:

- 12 receive queues of 1 024 buffers. At the start each slot is posted: one page is mapped. Nothing of this is ever
  unmapped at the end, as when a recording stops while the card works.
- Then packets arrive in bursts of 8 to 64 on one queue. Each completed buffer is unmapped, and a fresh page is
  mapped in its place. Pages come from a recycled pool, last in first out, as a driver's page pool gives them.
- After every burst a send: a scatter list of 1 to 17 pages as neighbouring IOVAs with pages from anywhere, several
  maps but one unmap over them all when the card is done, 1 to 8 sends later.
- IOVAs go downwards from 0xfffff000; freed ones are used again first, per size, as Linux's per-CPU caches do it.

Every choice comes from splitmix64 with a fixed seed, so the text is the same everywhere, forever.

    python -m iommufd_fast.replay.synth FILE.gz
"""

from __future__ import annotations

import gzip
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

PAGE = 4096
QUEUES, SLOTS = 12, 1024
BURSTS = 260
SEED = 0x10FA57


class Random:
    """splitmix64."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def __call__(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        return self() % n


class _Iovas:
    """Downwards from 4 GiB; what was freed is used again first, per size."""

    def __init__(self) -> None:
        self.next = 0xFFFFF000 + PAGE
        self.free: dict[int, list[int]] = {}

    def take(self, pages: int) -> int:
        if self.free.get(pages):
            return self.free[pages].pop()
        self.next -= pages * PAGE
        if self.next < 0xFEF00000 <= self.next + pages * PAGE:
            self.next = 0xFEE00000 - pages * PAGE  # the MSI window is never used
        return self.next

    def give(self, iova: int, pages: int) -> None:
        self.free.setdefault(pages, []).append(iova)


class _Card:
    def __init__(self) -> None:
        self.random = Random(SEED)
        self.iovas = _Iovas()
        self.pool: list[int] = []
        self.fresh = 0x1_0000_0000
        self.clock = 1_000_000
        self.sent: deque[tuple[int, list[int]]] = deque()

    def page(self) -> int:
        if self.pool and self.random.below(16):
            return self.pool.pop()
        self.fresh += PAGE * (1 + self.random.below(3))
        return self.fresh

    def line(self, task: str, event: str) -> str:
        self.clock += 1 + self.random.below(4)
        return f"{task:>16}-{0:<7} [000] ..s2. {self.clock // 10**6:5d}.{self.clock % 10**6:06d}: {event}\n"

    def map(self, task: str, iova: int, paddr: int) -> str:
        return self.line(
            task, f"map: IOMMU: iova=0x{iova:016x} - 0x{iova + PAGE:016x} paddr=0x{paddr:016x} size={PAGE}"
        )

    def unmap(self, task: str, iova: int, pages: int) -> str:
        size = pages * PAGE
        return self.line(
            task, f"unmap: IOMMU: iova=0x{iova:016x} - 0x{iova + size:016x} size={size} unmapped_size={size}"
        )

    def post(self) -> tuple[int, int, str]:
        iova, paddr = self.iovas.take(1), self.page()
        return iova, paddr, self.map("rx", iova, paddr)

    def send(self) -> Iterator[str]:
        pages = [self.page() for _ in range(1 + self.random.below(17))]
        iova = self.iovas.take(len(pages))
        for i, paddr in enumerate(pages):
            yield self.map("tx", iova + i * PAGE, paddr)
        self.sent.append((iova, pages))

    def done(self) -> Iterator[str]:
        iova, pages = self.sent.popleft()
        yield self.unmap("tx", iova, len(pages))
        self.iovas.give(iova, len(pages))
        self.pool.extend(pages)

    def receive(self, ring: list[tuple[int, int]], head: int, n: int) -> Iterator[str]:
        for slot in (i % SLOTS for i in range(head, head + n)):
            iova, paddr = ring[slot]
            yield self.unmap("rx", iova, 1)
            self.iovas.give(iova, 1)
            self.pool.append(paddr)
            new_iova, new_paddr, line = self.post()
            ring[slot] = new_iova, new_paddr
            yield line

    def lines(self) -> Iterator[str]:
        rings: list[list[tuple[int, int]]] = [[] for _ in range(QUEUES)]
        for ring in rings:
            for _ in range(SLOTS):
                iova, paddr, line = self.post()
                ring.append((iova, paddr))
                yield line
        heads = [0] * QUEUES
        for _ in range(BURSTS):
            queue, n = self.random.below(QUEUES), 8 + self.random.below(57)
            yield from self.receive(rings[queue], heads[queue], n)
            heads[queue] += n
            yield from self.send()
            while len(self.sent) > 1 + self.random.below(8):
                yield from self.done()


HEADER = """\
# tracer: nop
#
# Synthetic: made by iommufd_fast.replay.synth, not recorded. 12 receive rings of 1024 one-page buffers, and sends.
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
"""


def text() -> str:
    """The whole trace."""
    return HEADER + "".join(_Card().lines())


def main(path: str) -> None:
    """Write the trace, compressed, without a time stamp."""
    Path(path).write_bytes(gzip.compress(text().encode(), 9, mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
