# SPDX-License-Identifier: Apache-2.0
"""I/O address spaces for userspace: the model of Linux's iommufd as a fast engine in any process.

::

    import iommufd_fast as iof, numpy as np

    with iof.open() as ctx:                       # a context on the process's default machine
        dev = ctx.bind(iof.SoftDevice("intel"))   # claims the device's group
        ioas = ctx.ioas()                         # an address space
        dev.attach(ioas)
        buf = np.zeros(1 << 20, np.uint8)
        with ioas.map(buf) as m:
            dev.dma_write(m.iova, b"hello")       # lands in buf
"""

from iommufd_fast import uapi
from iommufd_fast._core.mapping import Mapping
from iommufd_fast._core.origins import track_origins
from iommufd_fast._paths import get_include, get_library_dir
from iommufd_fast._version import __version__
from iommufd_fast.access import Access, Pin
from iommufd_fast.context import Iommufd
from iommufd_fast.device import Device, DeviceInfo
from iommufd_fast.dmabuf import DmaBuf
from iommufd_fast.endpoint import Endpoint
from iommufd_fast.errors import (
    BadAddress,
    Busy,
    DmaFault,
    ForkedError,
    Full,
    Invalid,
    IommufdError,
    NoDevice,
    NotFound,
    NotPermitted,
    NotSupported,
    OutOfMemory,
    RangeExists,
    RangeOverflow,
    RangeReserved,
    UnknownCommand,
)
from iommufd_fast.events import Event, EventQueue
from iommufd_fast.faults import Fault, FaultQueue
from iommufd_fast.guest import (
    AmdGuest,
    Smmuv3Command,
    Smmuv3Event,
    Smmuv3Stage1,
    VtdInvalidate,
    VtdStage1,
    smmuv3_descriptor,
)
from iommufd_fast.hwinfo import HwCapability, HwInfo, HwInfoType
from iommufd_fast.hwpt import Hwpt, HwptStats
from iommufd_fast.ioas import Ioas
from iommufd_fast.machine import IotlbStats, Machine, MachineDevice, SoftDevice, default_machine
from iommufd_fast.providers import open
from iommufd_fast.records import ContextStats, IoasStats, LeafInfo, MappingInfo
from iommufd_fast.viommu import HwQueue, Region, Vdevice, Viommu

__all__ = [
    "Access",
    "AmdGuest",
    "BadAddress",
    "Busy",
    "ContextStats",
    "Device",
    "DeviceInfo",
    "DmaBuf",
    "DmaFault",
    "Endpoint",
    "Event",
    "EventQueue",
    "Fault",
    "FaultQueue",
    "ForkedError",
    "Full",
    "HwCapability",
    "HwInfo",
    "HwInfoType",
    "HwQueue",
    "Hwpt",
    "HwptStats",
    "Invalid",
    "Ioas",
    "IoasStats",
    "Iommufd",
    "IommufdError",
    "IotlbStats",
    "LeafInfo",
    "Machine",
    "MachineDevice",
    "Mapping",
    "MappingInfo",
    "NoDevice",
    "NotFound",
    "NotPermitted",
    "NotSupported",
    "OutOfMemory",
    "Pin",
    "RangeExists",
    "RangeOverflow",
    "RangeReserved",
    "Region",
    "Smmuv3Command",
    "Smmuv3Event",
    "Smmuv3Stage1",
    "SoftDevice",
    "UnknownCommand",
    "Vdevice",
    "Viommu",
    "VtdInvalidate",
    "VtdStage1",
    "__version__",
    "default_machine",
    "get_include",
    "get_library_dir",
    "open",
    "smmuv3_descriptor",
    "track_origins",
    "uapi",
]
