# SPDX-License-Identifier: Apache-2.0
"""The numbers and structs of VFIO device files beyond those in `iommufd_fast.uapi`: regions, interrupts, reset."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np


class Command(IntEnum):
    """Numbers of the commands, for `Device.ioctl`."""

    GET_REGION_INFO = 0x3B6C
    GET_IRQ_INFO = 0x3B6D
    SET_IRQS = 0x3B6E
    RESET = 0x3B6F


class DeviceFlag(IntFlag):
    """Flags of DEVICE_GET_INFO."""

    RESET = 1
    PCI = 2
    CAPS = 128


class RegionFlag(IntFlag):
    """What may be done with a region."""

    READ = 1
    WRITE = 2
    MMAP = 4
    CAPS = 8


class PciRegion(IntEnum):
    """Indexes of a PCI device's regions; BAR0 to BAR5 are 0 to 5."""

    BAR0 = 0
    BAR5 = 5
    ROM = 6
    CONFIG = 7


class PciIrq(IntEnum):
    """Indexes of a PCI device's kinds of interrupts."""

    INTX = 0
    MSI = 1
    MSIX = 2


class IrqFlag(IntFlag):
    """What an interrupt can."""

    EVENTFD = 1
    MASKABLE = 2
    AUTOMASKED = 4
    NORESIZE = 8


class IrqSetFlag(IntFlag):
    """What SET_IRQS gets and does."""

    NONE = 1
    BOOL = 2
    EVENTFD = 4
    MASK = 8
    UNMASK = 16
    TRIGGER = 32


def _struct(names: str, **other: str) -> np.dtype:
    return np.dtype([(name, other.get(name, "u4")) for name in names.split()])


REGION_INFO = _struct("argsz flags index cap_offset bytes offset", bytes="u8", offset="u8")
CAP = _struct("id version next", id="u2", version="u2")
SPARSE_CAP = 1
AREA = _struct("offset bytes", offset="u8", bytes="u8")
IRQ_INFO = _struct("argsz flags index count")
IRQ_SET = _struct("argsz flags index start count")
