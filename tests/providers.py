# SPDX-License-Identifier: Apache-2.0
"""The providers that tests of what stands above handles run on: by name, a context with a device on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import iommufd_fast as iof
from iommufd_fast._core import dma
from iommufd_fast._core.commands import DeviceHandle
from iommufd_fast.context import Iommufd


@dataclass
class World:
    """A context with one device, attached to one IOAS; `write` and `read` are the device's DMA."""

    ctx: iof.Iommufd
    dev: iof.Device
    ioas: iof.Ioas
    hardware: DeviceHandle | None = None  # the device itself, where `dev` is only a file of it

    def write(self, iova: int, data: bytes) -> None:
        dma.write(self.hardware or self.dev._h, iova, data)

    def read(self, iova: int, n: int) -> bytes:
        return bytes(dma.read(self.hardware or self.dev._h, iova, n))


@contextmanager
def engine() -> Iterator[World]:
    with iof.Machine("intel", groups=[1]) as machine, machine.open() as ctx:
        dev, ioas = ctx.bind(0), ctx.ioas()
        dev.attach(ioas)
        yield World(ctx, dev, ioas)
        assert machine.is_valid()


@contextmanager
def kernel(accounting: str = "none") -> Iterator[World]:
    """The kernel provider; an engine answers its system calls, looks at memory as a kernel must, and does the DMA."""
    with iof.Machine("intel", groups=[1], policy="probe", accounting=accounting) as machine:
        hardware = DeviceHandle()
        assert hardware.open_on(machine._core, 0, "hardware") == 0
        with Iommufd._open_kernel("/dev/iommu", "own", "a test asked for it", over=machine) as ctx:
            dev, ioas = ctx.bind(iof.VfioDevice("vfio0")), ctx.ioas()
            dev.attach(ioas)
            yield World(ctx, dev, ioas, hardware)
        hardware.close()
        assert machine.is_valid()


# A provider that needs a machine of its own (a guest with an IOMMU, say) adds itself here when it is there.
PROVIDERS: dict[str, Callable] = {"engine": engine, "kernel": kernel}
