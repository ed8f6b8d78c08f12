# SPDX-License-Identifier: Apache-2.0
"""The providers that tests of what stands above handles run on: by name, a context with a device on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import iommufd_fast as iof


@dataclass
class World:
    """A context with one device, attached to one IOAS; `write` and `read` are the device's DMA."""

    ctx: iof.Iommufd
    dev: iof.Device
    ioas: iof.Ioas

    def write(self, iova: int, data: bytes) -> None:
        self.dev.dma_write(iova, data)

    def read(self, iova: int, n: int) -> bytes:
        return bytes(self.dev.dma_read(iova, n))


@contextmanager
def engine() -> Iterator[World]:
    with iof.Machine("intel", groups=[1]) as machine, machine.open() as ctx:
        dev, ioas = ctx.bind(0), ctx.ioas()
        dev.attach(ioas)
        yield World(ctx, dev, ioas)


# A provider that needs a machine of its own (a guest with an IOMMU, say) adds itself here when it is there.
PROVIDERS: dict[str, Callable] = {"engine": engine}
