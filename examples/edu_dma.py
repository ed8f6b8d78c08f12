# SPDX-License-Identifier: Apache-2.0
"""The smallest possible driver: QEMU's edu device copies memory, through its IOMMU. Needs it bound to vfio-pci."""

import sys
import time

import numpy as np

import iommufd_fast as iof

SOURCE, TARGET, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98  # registers of its DMA engine
BUFFER = 0x40000  # its own 4 KiB of memory
RUN, TO_MEMORY = 1, 2


def dma(bar: iof.DeviceRegion, source: int, target: int, count: int, command: int = 0) -> None:
    """One transfer, waited for."""
    for register, value in ((SOURCE, source), (TARGET, target), (COUNT, count), (COMMAND, RUN | command)):
        bar.write64(register, value)
    while bar.read64(COMMAND) & RUN:
        time.sleep(0.001)


with iof.open("/dev/iommu") as ctx:
    dev = ctx.bind(iof.VfioDevice(sys.argv[1]))  # "0000:00:04.0"
    dev.bus_master = True
    ioas = ctx.ioas()
    ioas.allow([(0x100000, 0xFFFFFFF)])  # edu's DMA has 28 bits
    dev.attach(ioas)
    data, copy = np.arange(2000, dtype=np.uint8), np.zeros(2000, np.uint8)
    with ioas.map(data, access="r") as a, ioas.map(copy) as b:
        dma(dev.region(0), a.iova, BUFFER, data.size)
        dma(dev.region(0), BUFFER, b.iova, copy.size, TO_MEMORY)
    print("edu copied", data.size, "bytes:", "equal" if (data == copy).all() else "NOT EQUAL")
