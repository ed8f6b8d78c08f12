# SPDX-License-Identifier: Apache-2.0
"""What is read of an ELF file: whether a dynamic linker will load it, and for which machine; what a library exports."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"\x7fELF"
PT_INTERP = 3
SHT_DYNSYM = 11


Data = bytes | mmap.mmap


class NotElf(ValueError):
    """The file is no ELF file, or one that is cut short."""


@dataclass(frozen=True)
class Elf:
    """What the header of an ELF file says."""

    bits: int
    machine: int
    interpreter: str | None  # the dynamic linker that it asks for

    @property
    def kind(self) -> tuple[int, int]:
        """What two files must have in common to be in one process: word size and machine."""
        return self.bits, self.machine


def _unpack(layout: str, data: Data, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, at)
    except (struct.error, ValueError) as e:
        raise NotElf("the ELF file is cut short") from e


def look(path: Path) -> Elf:
    """Read the header of a file, or raise as :func:`parse` does; OSError."""
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            raise NotElf("not an ELF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse(data)


def parse(data: Data) -> Elf:
    """Read the header.

    Raises
    ------
    NotElf
        It is something else.
    """
    if data[:4] != MAGIC or len(data) < 20 or data[4] not in (1, 2) or data[5] not in (1, 2):
        raise NotElf("not an ELF file")
    wide, order = data[4] == 2, "<>"[data[5] - 1]
    (machine,) = _unpack(order + "H", data, 18)
    (headers,) = _unpack(order + ("Q" if wide else "I"), data, 32 if wide else 28)
    size, count = _unpack(order + "HH", data, 54 if wide else 42)
    interpreter = None
    for i in range(count):
        at = headers + i * size
        (kind,) = _unpack(order + "I", data, at)
        if kind == PT_INTERP:
            (offset,) = _unpack(order + ("Q" if wide else "I"), data, at + (8 if wide else 4))
            (length,) = _unpack(order + ("Q" if wide else "I"), data, at + (32 if wide else 16))
            interpreter = data[offset : offset + length].rstrip(b"\0").decode(errors="replace")
    return Elf(64 if wide else 32, machine, interpreter)


def _sections(data: Data) -> Iterator[tuple[int, ...]]:
    """Of a 64-bit file of this machine's byte order: type, offset, size, link of each section."""
    (table,) = _unpack("=Q", data, 40)
    size, count = _unpack("=HH", data, 58)
    for i in range(count):
        at = table + i * size
        (kind,) = _unpack("=I", data, at + 4)
        offset, length = _unpack("=QQ", data, at + 24)
        (link,) = _unpack("=I", data, at + 40)
        yield kind, offset, length, link


def exported_functions(library: Path) -> list[str]:
    """Names of the functions that a shared library of this machine defines for others, sorted.

    Raises
    ------
    OSError, NotElf
        It cannot be read.
    """
    data = library.read_bytes()
    if parse(data).bits != 64:
        raise NotElf(f"{library} is not a library of this machine")
    sections = list(_sections(data))
    names = set()
    for kind, offset, length, link in sections:
        if kind != SHT_DYNSYM:
            continue
        strings = sections[link][1]
        for at in range(offset, offset + length, 24):
            name, info, _, section = _unpack("=IBBH", data, at)
            if section and info & 15 == 2 and info >> 4 in (1, 2):  # defined here, a function, global or weak
                start = strings + name
                names.add(data[start : data.index(b"\0", start)].decode())
    return sorted(names)
