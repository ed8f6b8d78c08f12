# SPDX-License-Identifier: Apache-2.0
"""Archives that Linux unpacks as its first file system: cpio in the format "newc", uncompressed.

An entry is a header of 110 characters (a magic number and thirteen fields of eight hexadecimal digits), the name with a
final zero, and the content; name and content each end at a multiple of four bytes. An entry named TRAILER!!! ends it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

END = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """A file of an archive; belongs to root.

    Attributes
    ----------
    name : str
        Path without a leading slash; its folders must come before it.
    mode : int
        Type and permissions, as in st_mode.
    content : bytes
        Of a file; the target of a link.
    device : (int, int)
        Major and minor number of a device node.
    """

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, content: bytes, mode: int = 0o644) -> Entry:
    return Entry(name, stat.S_IFREG | mode, content)


def character_device(name: str, major: int, minor: int) -> Entry:
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.content)


def archive(entries: Iterable[Entry]) -> bytes:
    """The bytes of an archive.

    Raises
    ------
    ValueError
        A name that is empty, absolute or there twice; a file of 4 GiB or more.
    """
    records, seen = [], set()
    for number, entry in enumerate(entries, 1):
        if not entry.name or entry.name.startswith("/") or entry.name in seen or entry.name == END:
            raise ValueError(f"{entry.name!r} cannot be the name of a file of this archive: relative, and once each")
        if len(entry.content) >= 1 << 32:
            raise ValueError(f"{entry.name} has {len(entry.content)} bytes; an archive's file has less than 4 GiB")
        seen.add(entry.name)
        records.append(_record(number, entry))
    return b"".join([*records, _record(0, Entry(END, 0))])
