# SPDX-License-Identifier: Apache-2.0
"""The numbers and structs of the iommufd and VFIO device uAPI, for the raw door (`Iommufd.ioctl`).

Structs are NumPy dtypes with the kernel's names and offsets::

    cmd = np.zeros((), uapi.IOAS_ALLOC)
    cmd["size"] = cmd.itemsize
    ctx.ioctl(uapi.Command.IOAS_ALLOC, cmd)
    cmd["out_ioas_id"]
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np


class Command(IntEnum):
    """Numbers of the commands."""

    DESTROY = 0x3B80
    IOAS_ALLOC = 0x3B81
    IOAS_ALLOW_IOVAS = 0x3B82
    IOAS_COPY = 0x3B83
    IOAS_IOVA_RANGES = 0x3B84
    IOAS_MAP = 0x3B85
    IOAS_UNMAP = 0x3B86
    OPTION = 0x3B87
    VFIO_IOAS = 0x3B88
    HWPT_ALLOC = 0x3B89
    GET_HW_INFO = 0x3B8A
    HWPT_SET_DIRTY_TRACKING = 0x3B8B
    HWPT_GET_DIRTY_BITMAP = 0x3B8C
    HWPT_INVALIDATE = 0x3B8D
    FAULT_QUEUE_ALLOC = 0x3B8E
    IOAS_MAP_FILE = 0x3B8F
    VIOMMU_ALLOC = 0x3B90
    VDEVICE_ALLOC = 0x3B91
    IOAS_CHANGE_PROCESS = 0x3B92
    VEVENTQ_ALLOC = 0x3B93
    HW_QUEUE_ALLOC = 0x3B94
    DEVICE_GET_INFO = 0x3B6B
    DEVICE_BIND_IOMMUFD = 0x3B76
    DEVICE_ATTACH_PT = 0x3B77
    DEVICE_DETACH_PT = 0x3B78


class MapFlag(IntFlag):
    """Flags of IOAS_MAP, IOAS_MAP_FILE and IOAS_COPY."""

    FIXED_IOVA = 1
    WRITEABLE = 2
    READABLE = 4


class Option(IntEnum):
    """What OPTION sets and gets."""

    RLIMIT_MODE = 0
    HUGE_PAGES = 1


class OptionOp(IntEnum):
    """What OPTION does."""

    SET = 0
    GET = 1


class HwptFlag(IntFlag):
    """Flags of HWPT_ALLOC."""

    NEST_PARENT = 1
    DIRTY_TRACKING = 2
    FAULT_ID_VALID = 4
    PASID = 8


class BindFlag(IntFlag):
    """Flags of DEVICE_BIND_IOMMUFD."""

    TOKEN = 1


class AttachFlag(IntFlag):
    """Flags of DEVICE_ATTACH_PT and DEVICE_DETACH_PT."""

    PASID = 1


class FaultFlag(IntFlag):
    """Flags of a fault record."""

    PASID_VALID = 1
    LAST_PAGE = 2


class FaultPerm(IntFlag):
    """What a fault record's device wanted to do."""

    READ = 1
    WRITE = 2
    EXEC = 4
    PRIV = 8


class FaultCode(IntEnum):
    """Answers to a fault."""

    SUCCESS = 0
    INVALID = 1


class HwptData(IntEnum):
    """Types of HWPT_ALLOC's data: whose struct it is."""

    VTD_S1 = 1
    ARM_SMMUV3 = 2
    AMD_GUEST = 3


class InvalidateData(IntEnum):
    """Types of HWPT_INVALIDATE's entries: of a nested page table, of a vIOMMU."""

    VTD_S1 = 0
    ARM_SMMUV3 = 1


class ViommuType(IntEnum):
    """Types of vIOMMUs."""

    ARM_SMMUV3 = 1
    TEGRA241_CMDQV = 2


class VeventqType(IntEnum):
    """Types of event queues."""

    ARM_SMMUV3 = 1
    TEGRA241_CMDQV = 2


class VtdS1Flag(IntFlag):
    """Flags of VT-d's data: supervisor requests, extended access flags, write protection."""

    SRE = 1
    EAFE = 2
    WPE = 4


class VtdInvFlag(IntFlag):
    """Flags of VT-d's invalidations."""

    LEAF = 1


class VeventFlag(IntFlag):
    """Flags of an event's header."""

    LOST = 1


_TYPES = {"u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "s32": np.int32, "u64": np.uint64}


def _struct(fields: str) -> np.dtype[np.void]:
    """Make a dtype from "u32 size flags; u64 length", laid out as C does. u8 reserved[3] is an array."""
    members: list[tuple] = []
    for group in fields.split(";"):
        kind, *names = group.split()
        for name in names:
            base, _, count = name.rstrip("]").partition("[")
            members.append((base, _TYPES[kind], (int(count),)) if count else (base, _TYPES[kind]))
    return np.dtype(members, align=True)


RANGE = _struct("u64 start last")
DESTROY = _struct("u32 size id")
IOAS_ALLOC = _struct("u32 size flags out_ioas_id")
IOAS_ALLOW_IOVAS = _struct("u32 size ioas_id num_iovas reserved; u64 allowed_iovas")
IOAS_COPY = _struct("u32 size flags dst_ioas_id src_ioas_id; u64 length dst_iova src_iova")
IOAS_IOVA_RANGES = _struct("u32 size ioas_id num_iovas reserved; u64 allowed_iovas out_iova_alignment")
IOAS_MAP = _struct("u32 size flags ioas_id reserved; u64 user_va length iova")
IOAS_UNMAP = _struct("u32 size ioas_id; u64 iova length")
OPTION = _struct("u32 size option_id; u16 op reserved; u32 object_id; u64 val64")
VFIO_IOAS = _struct("u32 size ioas_id; u16 op reserved")
HWPT_ALLOC = _struct(
    "u32 size flags dev_id pt_id out_hwpt_id reserved data_type data_len; u64 data_uptr; u32 fault_id reserved2"
)
GET_HW_INFO = _struct(
    "u32 size flags dev_id data_len; u64 data_uptr; u32 data_type; u8 out_max_pasid_log2 reserved[3]; "
    "u64 out_capabilities"
)
HWPT_SET_DIRTY_TRACKING = _struct("u32 size flags hwpt_id reserved")
HWPT_GET_DIRTY_BITMAP = _struct("u32 size hwpt_id flags reserved; u64 iova length page_size data")
HWPT_INVALIDATE = _struct("u32 size hwpt_id; u64 data_uptr; u32 data_type entry_len entry_num reserved")
FAULT_QUEUE_ALLOC = _struct("u32 size flags out_fault_id out_fault_fd")
IOAS_MAP_FILE = _struct("u32 size flags ioas_id; s32 fd; u64 start length iova")
VIOMMU_ALLOC = _struct("u32 size flags type dev_id hwpt_id out_viommu_id data_len reserved; u64 data_uptr")
VDEVICE_ALLOC = _struct("u32 size viommu_id dev_id out_vdevice_id; u64 virt_id")
IOAS_CHANGE_PROCESS = _struct("u32 size reserved")
VEVENTQ_ALLOC = _struct("u32 size flags viommu_id type veventq_depth out_veventq_id out_veventq_fd reserved")
HW_QUEUE_ALLOC = _struct("u32 size flags viommu_id type index out_hw_queue_id; u64 nesting_parent_iova length")
DEVICE_GET_INFO = _struct("u32 argsz flags num_regions num_irqs cap_offset pad")
DEVICE_BIND_IOMMUFD = _struct("u32 argsz flags; s32 iommufd; u32 out_devid; u64 token_uuid_ptr")
DEVICE_ATTACH_PT = _struct("u32 argsz flags pt_id pasid")
DEVICE_DETACH_PT = _struct("u32 argsz flags pasid")

# What is read from and written to the files of fault and event queues.
FAULT_RECORD = _struct("u32 flags dev_id pasid grpid perm reserved; u64 addr; u32 length cookie")
FAULT_RESPONSE = _struct("u32 cookie code")
VEVENT_HEADER = _struct("u32 flags sequence")

# Driver data of guests' page tables: their tables, invalidations and events. `iommufd_fast.guest` fills them in.
VTD_S1 = _struct("u64 flags pgtbl_addr; u32 addr_width reserved")
VTD_S1_INVALIDATE = _struct("u64 addr npages; u32 flags reserved")
ARM_SMMUV3 = _struct("u64 ste[2]")
ARM_SMMUV3_INVALIDATE = _struct("u64 cmd[2]")
ARM_SMMUV3_EVENT = _struct("u64 evt[4]")
AMD_GUEST = _struct("u64 dte[4]")
