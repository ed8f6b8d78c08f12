# SPDX-License-Identifier: Apache-2.0
"""What GET_HW_INFO tells of the IOMMU behind a device."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag


class HwInfoType(IntEnum):
    """Which layout the data has."""

    NONE = 0
    INTEL_VTD = 1
    ARM_SMMUV3 = 2
    TEGRA241_CMDQV = 3
    AMD = 4
    SELFTEST = 0xFEEDBEEF


class HwCapability(IntFlag):
    """What does not depend on the layout."""

    DIRTY_TRACKING = 1
    PASID_EXEC = 2
    PASID_PRIV = 4
    ATS_NOT_SUPPORTED = 8


@dataclass(frozen=True, slots=True)
class IntelInfo:
    """VT-d: the capability and the extended capability register (VT-d specification 11.4.2, 11.4.3)."""

    flags: int
    reserved: int
    cap: int
    ecap: int

    @property
    def address_width(self) -> int:
        """Bits of an IOVA."""
        return (self.cap >> 16 & 63) + 1

    @property
    def pasid_bits(self) -> int:
        """Bits of a PASID; 0 without PASIDs."""
        return (self.ecap >> 35 & 31) + 1 if self.ecap >> 40 & 1 else 0

    @property
    def nesting(self) -> bool:
        """Whether guests' first-stage tables can be walked."""
        return bool(self.ecap >> 26 & 1)

    @property
    def large_pages(self) -> tuple[int, ...]:
        """Sizes in bytes, beyond 4096, of second-stage pages."""
        return tuple(size for bit, size in ((34, 1 << 21), (35, 1 << 30)) if self.cap >> bit & 1)


@dataclass(frozen=True, slots=True)
class AmdInfo:
    """AMD: the extended feature registers (AMD IOMMU specification 3.4.9)."""

    efr: int
    efr2: int

    @property
    def pasid_bits(self) -> int:
        """Bits of a PASID; 0 without guest translation."""
        return (self.efr >> 32 & 31) + 1 if self.efr >> 4 & 1 else 0


@dataclass(frozen=True, slots=True)
class Smmuv3Info:
    """ARM SMMUv3: identification registers IDR0 to IDR5, IIDR, AIDR."""

    flags: int
    reserved: int
    idr: tuple[int, ...]
    iidr: int
    aidr: int

    @property
    def pasid_bits(self) -> int:
        """Bits of a substream id, which PASIDs become."""
        return self.idr[1] >> 6 & 31

    @property
    def output_bits(self) -> int:
        """Width of the addresses that come out."""
        return (32, 36, 40, 42, 44, 48, 52, 56)[self.idr[5] & 7]

    @property
    def granules(self) -> tuple[int, ...]:
        """Page sizes of guests' tables in bytes."""
        return tuple(size for bit, size in ((4, 4096), (5, 16384), (6, 65536)) if self.idr[5] >> bit & 1)


@dataclass(frozen=True, slots=True)
class CmdqvInfo:
    """Tegra241 CMDQV: version and how many queues and stream ids a guest can have, as logarithms."""

    flags: int
    version: int
    log2vcmdqs: int
    log2vsids: int


@dataclass(frozen=True, slots=True)
class SelftestInfo:
    """The mock IOMMU of Linux's own tests."""

    flags: int
    test_reg: int


Decoded = IntelInfo | AmdInfo | Smmuv3Info | CmdqvInfo | SelftestInfo


@dataclass(frozen=True, slots=True)
class HwInfo:
    """What GET_HW_INFO tells.

    Attributes
    ----------
    type : int
        A `HwInfoType`, or an embedder's number.
    data : bytes
        The driver's struct.
    capabilities : HwCapability
    max_pasid_log2 : int
        2**max_pasid_log2 PASIDs can be attached; 0 for none.
    decoded : IntelInfo, AmdInfo, Smmuv3Info, CmdqvInfo, SelftestInfo or None
        The struct's fields; None for a layout that is not known here.
    """

    type: int
    data: bytes
    capabilities: HwCapability
    max_pasid_log2: int
    decoded: Decoded | None


def decode(kind: int, data: bytes) -> Decoded | None:
    """The fields of a driver's struct; None: not known, or too short."""

    def fields(layout: str) -> tuple[int, ...] | None:
        return struct.unpack_from(layout, data) if len(data) >= struct.calcsize(layout) else None

    if kind == HwInfoType.INTEL_VTD and (f := fields("=IIQQ")):
        return IntelInfo(*f)
    if kind == HwInfoType.AMD and (f := fields("=QQ")):
        return AmdInfo(*f)
    if kind == HwInfoType.ARM_SMMUV3 and (f := fields("=10I")):
        return Smmuv3Info(f[0], f[1], f[2:8], f[8], f[9])
    if kind == HwInfoType.TEGRA241_CMDQV and (f := fields("=I4B")):
        return CmdqvInfo(*f[:4])
    if kind == HwInfoType.SELFTEST and (f := fields("=II")):
        return SelftestInfo(*f)
    return None


def hw_info(kind: int, data: bytes, capabilities: int, max_pasid_log2: int) -> HwInfo:
    """Make the record from what the C core answered."""
    named = HwInfoType(kind) if kind in HwInfoType._value2member_map_ else kind
    return HwInfo(named, data, HwCapability(capabilities), max_pasid_log2, decode(kind, data))
