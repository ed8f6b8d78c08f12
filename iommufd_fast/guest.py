# SPDX-License-Identifier: Apache-2.0
"""Guests' page tables in the words of each IOMMU: what `Iommufd.hwpt` and the invalidations take as typed objects.

All addresses in here are guest-physical: IOVAs of the parent page table's IOAS.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from iommufd_fast import uapi
from iommufd_fast._core import machines

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAST = 2**64 - 1
_SIZES = {32: 0, 36: 1, 40: 2, 42: 3, 44: 4, 48: 5, 52: 6}
_GRANULES = {4096: (0, 1), 16384: (2, 2), 65536: (1, 3)}  # TG0 of a descriptor, TG of a command


@runtime_checkable
class GuestData(Protocol):
    """A struct of driver data: its type's number, and its bytes."""

    @property
    def kind(self) -> int: ...
    def pack(self) -> bytes: ...


def _packed(dtype: np.dtype[np.void], *values: Any) -> bytes:
    made = np.zeros((), dtype)
    for name, value in zip(dtype.names or (), values, strict=False):
        made[name] = value
    return made.tobytes()


def _u64(**values: object) -> None:
    for name, value in values.items():
        machines.as_u64(value, name)


def _bits(name: str, value: object, bits: int, shift: int = 0, aligned: int = 1) -> int:
    """A field of a word, in its place."""
    number = machines.as_u64(value, name, (1 << bits) - 1)
    if number % aligned:
        raise ValueError(f"{name} must be a multiple of {aligned:#x}, not {number:#x}")
    return number << shift


# -- VT-d -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VtdStage1:
    """A first-stage table of VT-d: x86-64's format, `addr_width` 48 (four levels) or 57 (five).

    What the hardware cannot do (another width, extended access flags) is refused when a device is attached.
    """

    pgtbl_addr: int
    addr_width: int = 48
    flags: int = 0  # uapi.VtdS1Flag
    kind: ClassVar[int] = uapi.HwptData.VTD_S1

    def pack(self) -> bytes:
        """The struct's bytes."""
        _u64(pgtbl_addr=self.pgtbl_addr, flags=self.flags)
        width = machines.as_u64(self.addr_width, "addr_width", 0xFFFFFFFF)
        return _packed(uapi.VTD_S1, self.flags, self.pgtbl_addr, width)


@dataclass(frozen=True, slots=True)
class VtdInvalidate:
    """Pages of a VT-d guest's table have changed: `npages` of 4 KiB from `addr` on; by default all.

    `leaf`: only lowest entries have.
    """

    addr: int = 0
    npages: int = LAST
    leaf: bool = False
    kind: ClassVar[int] = uapi.InvalidateData.VTD_S1

    def pack(self) -> bytes:
        """The struct's bytes."""
        _u64(addr=self.addr, npages=self.npages)
        return _packed(uapi.VTD_S1_INVALIDATE, self.addr, self.npages, uapi.VtdInvFlag.LEAF if self.leaf else 0)


# -- AMD --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AmdGuest:
    """A guest's device table entry, on a vIOMMU: four words. `of` makes them from fields."""

    dte: tuple[int, int, int, int]
    kind: ClassVar[int] = uapi.HwptData.AMD_GUEST

    @classmethod
    def of(cls, gcr3: int, *, glx: int = 0, giov: bool = True, levels: int = 4, domain: int = 0) -> Self:
        """Make the entry that names a table of PASIDs.

        Parameters
        ----------
        gcr3 : int
            Address of the GCR3 table: 8-byte entries by PASID, each the address of a table in x86-64's format, or'ed
            with 1.
        glx : int
            Levels of that table less one: 0 for 512 PASIDs, 1, 2.
        giov : bool
            Requests without a PASID use entry 0; else they go through the parent's table alone.
        levels : {4, 5}
            Of the page tables.
        domain : int
            The guest's number for the cache: tables of one vIOMMU with the same share what is remembered.
        """
        if levels not in (4, 5):
            raise ValueError(f"levels must be 4 or 5, not {levels!r}")
        at = _bits("gcr3", gcr3, 52, aligned=4096)
        first = 1 | giov << 54 | 1 << 55 | _bits("glx", glx, 2, 56) | (at >> 12 & 7) << 58
        second = _bits("domain", domain, 16) | (at >> 15 & 0xFFFF) << 16 | at >> 31 << 43
        return cls((first, second, (levels - 4) << 54, 0))

    def pack(self) -> bytes:
        """The struct's bytes."""
        return _packed(uapi.AMD_GUEST, self.dte)


# -- SMMUv3 -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Smmuv3Stage1:
    """The first two words of a guest's stream table entry, on a vIOMMU. `translate`, `bypass` and `abort` make them."""

    ste: tuple[int, int]
    kind: ClassVar[int] = uapi.HwptData.ARM_SMMUV3

    @classmethod
    def translate(cls, cd: int, *, cd_max: int = 0, format: int = 0, no_substream: int = 2) -> Self:
        """Translate through context descriptors.

        Parameters
        ----------
        cd : int
            Address of the descriptor, or of the table of them.
        cd_max : int
            Log2 of how many substreams (PASIDs) there are; 0: one descriptor, for requests without.
        format : {0, 1, 2}
            One array; or two levels with 64 or 1024 descriptors in a lower one.
        no_substream : {0, 1, 2}
            What becomes of requests without a substream where there are some: stopped, untranslated, descriptor 0.
        """
        first = 1 | 5 << 1 | _bits("format", format, 2, 4) | _bits("cd", cd, 52, aligned=64)
        return cls((first | _bits("cd_max", cd_max, 5, 59), _bits("no_substream", no_substream, 2)))

    @classmethod
    def bypass(cls) -> Self:
        """No first stage: the parent's table alone."""
        return cls((1 | 4 << 1, 0))

    @classmethod
    def abort(cls) -> Self:
        """All is stopped."""
        return cls((1, 0))

    def pack(self) -> bytes:
        """The struct's bytes."""
        return np.array(self.ste, "<u8").tobytes()


def smmuv3_descriptor(root: int, *, asid: int, va_bits: int = 48, oa_bits: int = 48, granule: int = 4096) -> bytes:
    """A context descriptor of 64 bytes: the table at `root` for the lower half of all addresses, faults recorded.

    Parameters
    ----------
    root : int
        Address of the top table, in the format of ``PageTable("arm_s1", granule=granule, va_bits=va_bits)``.
    asid : int
        The tag of its translations, 16 bits.
    va_bits, oa_bits : int
        Widths of addresses that come in and go out.
    """
    if granule not in _GRANULES or oa_bits not in _SIZES:
        raise ValueError(f"granule must be one of {[*_GRANULES]} and oa_bits one of {[*_SIZES]}")
    first = _bits("64 - va_bits", 64 - va_bits, 6) | _GRANULES[granule][0] << 6 | 1 << 30 | 1 << 31
    first |= _SIZES[oa_bits] << 32 | 1 << 41 | 3 << 45 | _bits("asid", asid, 16, 48)
    words = np.zeros(8, "<u8")
    words[0], words[1] = first, _bits("root", root, 52, aligned=16)
    return words.tobytes()


@dataclass(frozen=True, slots=True)
class Smmuv3Command:
    """A command of a guest's queue, for ``Viommu.invalidate``. The class methods make those that are passed on."""

    cmd: tuple[int, int]
    kind: ClassVar[int] = uapi.InvalidateData.ARM_SMMUV3

    @classmethod
    def tlbi_all(cls) -> Self:
        """All translations of the guest."""
        return cls((0x10, 0))

    @classmethod
    def tlbi_asid(cls, asid: int) -> Self:
        """All of one ASID."""
        return cls((0x11 | _bits("asid", asid, 16, 48), 0))

    @classmethod
    def tlbi_va(cls, addr: int, asid: int | None = None, *, pages: int = 1, granule: int = 4096) -> Self:
        """From `addr` on, of one ASID or of all; `pages` is rounded up to what a command can say."""
        count, scale = max(machines.as_u64(pages, "pages"), 1), 0
        while count > 32:
            count, scale = (count + 1) // 2, scale + 1
        op = 0x13 if asid is None else 0x12 | _bits("asid", asid, 16, 48)
        op |= (count - 1) << 12 | _bits("pages", scale, 5, 20)
        return cls((op, (machines.as_u64(addr, "addr") & ~4095) | _GRANULES[granule][1] << 10))

    @classmethod
    def cfgi_cd(cls, sid: int, substream: int | None = None) -> Self:
        """A descriptor of a stream has changed, or all have; `sid` is the guest's id (``vdevice.virt_id``)."""
        stream = _bits("sid", sid, 32, 32)
        return cls((0x06 | stream if substream is None else 0x05 | stream | _bits("substream", substream, 20, 12), 0))

    def pack(self) -> bytes:
        """The struct's bytes."""
        return np.array(self.cmd, "<u8").tobytes()


@dataclass(frozen=True, slots=True)
class Smmuv3Event:
    """An event record for a guest, from ``Event.data``.

    Attributes
    ----------
    code : int
        0x10 F_TRANSLATION, 0x11 F_ADDR_SIZE, 0x12 F_ACCESS, 0x13 F_PERMISSION, 0x0a C_BAD_CD, …
    sid : int
        The guest's id of the device.
    substream : int or None
        The PASID.
    address : int
        The input address.
    read : bool
        Whether the device wanted to read.
    """

    code: int
    sid: int
    substream: int | None
    address: int
    read: bool

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode a record."""
        w = [int(x) for x in np.frombuffer(data, "<u8", 4)]
        substream = w[0] >> 12 & 0xFFFFF if w[0] >> 11 & 1 else None
        return cls(w[0] & 0xFF, w[0] >> 32, substream, w[2], bool(w[1] >> 35 & 1))


def entries_of(entries: GuestData | Iterable[GuestData]) -> tuple[int, NDArray[np.uint8], int]:
    """(type, bytes, bytes of an entry) of invalidations, which must be of one type."""
    items: Sequence[Any] = [entries] if isinstance(entries, GuestData) else list(entries)
    kinds = {type(item) for item in items}
    if len(kinds) != 1 or not all(isinstance(item, GuestData) for item in items):
        raise TypeError("invalidations are a data_type with entries, or objects of one type such as VtdInvalidate")
    parts = [item.pack() for item in items]
    return items[0].kind, np.frombuffer(b"".join(parts), np.uint8), len(parts[0])
