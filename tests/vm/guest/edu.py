# SPDX-License-Identifier: Apache-2.0
"""QEMU's edu device through the provider: what the tests here have in common."""

from __future__ import annotations

import time

import raw

import iommufd_fast as iof

REACH = (0x100000, (1 << 28) - 1)  # what its DMA reaches; above where the interrupt windows of old machines are
BUFFER = raw.EDU_BUFFER
SOURCE, TARGET, COUNT, COMMAND = raw.EDU_SOURCE, raw.EDU_TARGET, raw.EDU_COUNT, raw.EDU_COMMAND
START, TO_MEMORY, WITH_IRQ = 1, 2, 4
MOST = raw.EDU_MOST


def address() -> str:
    return raw.edu_addresses()[0]


def bind(ctx: iof.Iommufd) -> iof.KernelDevice:
    dev = ctx.bind(iof.VfioDevice(address()))
    dev.bus_master = True
    return dev


def start(dev: iof.KernelDevice, source: int, target: int, count: int, command: int) -> None:
    bar = dev.region(0)
    bar.write64(SOURCE, source)
    bar.write64(TARGET, target)
    bar.write64(COUNT, count)
    bar.write64(COMMAND, START | command)


def finish(dev: iof.KernelDevice) -> None:
    end = time.monotonic() + 20
    while dev.region(0).read64(COMMAND) & START:
        assert time.monotonic() < end, "the edu device did not finish"
        time.sleep(0.01)


def transfer(dev: iof.KernelDevice, source: int, target: int, count: int, command: int) -> None:
    start(dev, source, target, count, command)
    finish(dev)


def to_device(dev: iof.KernelDevice, iova: int, count: int) -> None:
    transfer(dev, iova, BUFFER, count, 0)


def to_memory(dev: iof.KernelDevice, iova: int, count: int) -> None:
    transfer(dev, BUFFER, iova, count, TO_MEMORY)
