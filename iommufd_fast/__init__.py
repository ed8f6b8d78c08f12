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

from typing import TYPE_CHECKING, Any

from iommufd_fast import uapi
from iommufd_fast._core.mapping import Mapping
from iommufd_fast._core.origins import track_origins
from iommufd_fast._version import __version__
from iommufd_fast.context import Iommufd
from iommufd_fast.device import Device, DeviceInfo
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
from iommufd_fast.hwpt import Hwpt, HwptStats
from iommufd_fast.ioas import Ioas
from iommufd_fast.machine import IotlbStats, Machine, MachineDevice, SoftDevice, default_machine
from iommufd_fast.providers import open

if TYPE_CHECKING:
    from iommufd_fast._core.mmio import dma_rmb, dma_wmb
    from iommufd_fast._paths import get_include, get_library_dir
    from iommufd_fast.access import Access, Pin
    from iommufd_fast.arena import ArenaStats, DmaArena, DmaBuffer
    from iommufd_fast.dmaarray import DmaArray, PageSizeWarning
    from iommufd_fast.dmabuf import DmaBuf
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
    from iommufd_fast.interrupts import Interrupts
    from iommufd_fast.kernel import DeviceRegion, KernelDevice, VfioDevice
    from iommufd_fast.mapcache import CachedMapping, MapCache, MapCacheStats
    from iommufd_fast.records import ContextStats, IoasStats, LeafInfo, MappingInfo
    from iommufd_fast.viommu import HwQueue, Region, Vdevice, Viommu

# What is imported when it is first asked for, because many programs never do. The same as above, for Python.
_LATER = {
    "_core.mmio": "dma_rmb dma_wmb",
    "_paths": "get_include get_library_dir",
    "access": "Access Pin",
    "arena": "ArenaStats DmaArena DmaBuffer",
    "dmaarray": "DmaArray PageSizeWarning",
    "dmabuf": "DmaBuf",
    "events": "Event EventQueue",
    "faults": "Fault FaultQueue",
    "guest": "AmdGuest Smmuv3Command Smmuv3Event Smmuv3Stage1 VtdInvalidate VtdStage1 smmuv3_descriptor",
    "hwinfo": "HwCapability HwInfo HwInfoType",
    "interrupts": "Interrupts",
    "kernel": "DeviceRegion KernelDevice VfioDevice",
    "mapcache": "CachedMapping MapCache MapCacheStats",
    "records": "ContextStats IoasStats LeafInfo MappingInfo",
    "viommu": "HwQueue Region Vdevice Viommu",
    "pin": "",
    "queues": "",
    "remedies": "",
    "uapi_vfio": "",
}
_HOMES = {name: module for module, names in _LATER.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _LATER:  # a module, as an attribute of the package
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_LATER})


__all__ = [
    "Access",
    "AmdGuest",
    "ArenaStats",
    "BadAddress",
    "Busy",
    "CachedMapping",
    "ContextStats",
    "Device",
    "DeviceInfo",
    "DeviceRegion",
    "DmaArena",
    "DmaArray",
    "DmaBuf",
    "DmaBuffer",
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
    "Interrupts",
    "Invalid",
    "Ioas",
    "IoasStats",
    "Iommufd",
    "IommufdError",
    "IotlbStats",
    "KernelDevice",
    "LeafInfo",
    "Machine",
    "MachineDevice",
    "MapCache",
    "MapCacheStats",
    "Mapping",
    "MappingInfo",
    "NoDevice",
    "NotFound",
    "NotPermitted",
    "NotSupported",
    "OutOfMemory",
    "PageSizeWarning",
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
    "VfioDevice",
    "Viommu",
    "VtdInvalidate",
    "VtdStage1",
    "__version__",
    "default_machine",
    "dma_rmb",
    "dma_wmb",
    "get_include",
    "get_library_dir",
    "open",
    "smmuv3_descriptor",
    "track_origins",
    "uapi",
]
