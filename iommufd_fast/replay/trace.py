# SPDX-License-Identifier: Apache-2.0
"""Reads the text of tracefs: the events ``iommu:map`` and ``iommu:unmap``.

Record one on a machine with an IOMMU::

    cd /sys/kernel/tracing
    echo 65536 > buffer_size_kb
    echo 1 > events/iommu/map/enable; echo 1 > events/iommu/unmap/enable
    ... the workload ...
    gzip < trace > my.ftrace.gz

A line is ``task-pid [cpu] flags seconds: map: IOMMU: iova=A - B paddr=P size=N``; B is exclusive. Lines of other
events are counted and left out; anything else is an error that names the line. ``perf script`` writes the same
events as ``iommu:map:``, which is read too.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

GRANULE = 4096
_LIMIT = 1 << 64


class TraceError(ValueError):
    """A trace that cannot be replayed: ``FILE:LINE: expected …, got …``."""

    def __init__(self, name: str, line: int, expected: str, got: str) -> None:
        super().__init__(f"{name}:{line}: expected {expected}, got {got}")
        self.name, self.line, self.expected, self.got = name, line, expected, got


class Event(NamedTuple):
    """One map or unmap of ``[iova, iova + size)``; ``paddr`` is None for an unmap."""

    line: int
    seconds: float
    iova: int
    size: int
    paddr: int | None

    @property
    def is_map(self) -> bool:
        return self.paddr is not None

    @property
    def end(self) -> int:
        return self.iova + self.size

    def __str__(self) -> str:
        what = "unmap" if self.paddr is None else "map"
        return f"{what} of {self.iova:#x}-{self.end:#x}"


@dataclass(frozen=True)
class Trace:
    """The events of one file in order, and how many lines of other events were left out."""

    name: str
    events: tuple[Event, ...]
    skipped: int = 0


_LINE = re.compile(
    r"\s*(?P<task>.*?)[-\s](?P<pid>\d+(?:/\d+)?)\s+(?:\(\s*[-\d]+\)\s+)?\[\d+\]\s+(?:\S+\s+)?(?P<seconds>\d+\.\d+):\s+"
    r"(?P<event>[\w:.]+?):(?:\s+(?P<rest>.*))?$",
    re.ASCII,
)
_FIELDS = {
    "map": re.compile(
        r"IOMMU: iova=0x([0-9a-f]{1,16}) - 0x([0-9a-f]{1,16}) paddr=0x([0-9a-f]{1,16}) size=(\d{1,20})\s*$", re.ASCII
    ),
    "unmap": re.compile(
        r"IOMMU: iova=0x([0-9a-f]{1,16}) - 0x([0-9a-f]{1,16}) size=(\d{1,20}) unmapped_size=(\d{1,20})\s*$", re.ASCII
    ),
}
_SHAPE = {
    "map": "'IOMMU: iova=0x… - 0x… paddr=0x… size=N'",
    "unmap": "'IOMMU: iova=0x… - 0x… size=N unmapped_size=N'",
}
_EXAMPLE = "a tracefs line 'task-pid [cpu] flags seconds: event: …'"
_LOST = re.compile(r"CPU:\s*\d+ \[LOST\s*(\d*)\s*EVENTS\]", re.ASCII)


def shown(text: str, limit: int = 60) -> str:
    """The text as it may stand in an error message: quoted, printable and short."""
    text = text.rstrip("\r\n")
    return ascii(text if len(text) <= limit else text[:limit] + "...")


class _Parser:
    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.skipped = 0

    def bad(self, expected: str, got: str) -> NoReturn:
        raise TraceError(self.name, self.number, expected, got)

    def parse(self, lines: Iterable[str]) -> Trace:
        events = tuple(self.events(lines))
        if not events:
            self.number += 1
            other = f" after {self.skipped} lines of other events" if self.skipped else ""
            self.bad("an iommu:map or iommu:unmap event", f"the end of the file{other}")
        return Trace(self.name, events, self.skipped)

    def events(self, lines: Iterable[str]) -> Iterator[Event]:
        for self.number, line in enumerate(lines, 1):
            if line.startswith("#") or not line.strip():
                continue
            event = self.line(line)
            if event is None:
                self.skipped += 1
            else:
                yield event

    def line(self, line: str) -> Event | None:
        match = _LINE.match(line.rstrip("\r\n"))
        if not match:
            if _LOST.search(line):
                self.bad("every event of the recording (a larger buffer_size_kb keeps them)", shown(line))
            self.bad(_EXAMPLE, shown(line))
        kind = match["event"].removeprefix("iommu:")
        if kind not in _FIELDS or (":" in match["event"] and not match["event"].startswith("iommu:")):
            return None
        rest = match["rest"] or ""
        fields = _FIELDS[kind].match(rest)
        if not fields:
            self.bad(_SHAPE[kind], shown(rest, 100))
        return self.event(kind, float(match["seconds"]), *fields.groups())

    def event(self, kind: str, seconds: float, first: str, end: str, third: str, fourth: str) -> Event:
        iova, stop = int(first, 16), int(end, 16)
        paddr = int(third, 16) if kind == "map" else None
        size = int(fourth if kind == "map" else third)
        self.check(iova, stop, size, paddr)
        if kind == "unmap" and int(fourth) != size:
            self.bad(f"unmapped_size={size}, as much as was asked for", f"unmapped_size={shown(fourth)[1:-1]}")
        return Event(self.number, seconds, iova, size, paddr)

    def check(self, iova: int, stop: int, size: int, paddr: int | None) -> None:
        if size == 0 or size > _LIMIT - iova:
            self.bad("a range of at least one byte below 2^64", f"iova={iova:#x} size={size}")
        if stop != (iova + size) % _LIMIT:  # the kernel's sum wraps at the very top
            self.bad(f"an exclusive end of {iova + size:#x} (iova + size)", f"{stop:#x}")
        if paddr is not None and paddr > _LIMIT - size:
            self.bad("physical memory below 2^64", f"paddr={paddr:#x} size={size}")
        for what, value in (("iova", iova), ("size", size), ("paddr", paddr or 0)):
            if value % GRANULE:
                self.bad(f"{what} to be a multiple of {GRANULE}", f"{value:#x}")


def parse(lines: Iterable[str], name: str = "<trace>") -> Trace:
    """Parse the lines of a trace; TraceError for a line that is neither an event nor a comment."""
    return _Parser(name).parse(lines)


def _text(raw: IO[bytes]) -> io.TextIOWrapper:
    """Text of a plain or gzip stream, told apart by the first bytes."""
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[type-var]
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        return io.TextIOWrapper(gzip.GzipFile(fileobj=buffered), "utf-8", "replace")
    return io.TextIOWrapper(buffered, "utf-8", "replace")


def read(raw: IO[bytes], name: str) -> Trace:
    """Parse a binary stream, compressed or not."""
    parser = _Parser(name)
    text = _text(raw)
    try:
        return parser.parse(text)
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise TraceError(name, parser.number + 1, "a whole gzip file", f"a broken one ({e})") from None
    finally:
        text.detach()


def load(path: str | Path) -> Trace:
    """Parse a file, plain or gzip; ``-`` reads standard input.

    Raises
    ------
    TraceError
        ``FILE:LINE: expected …, got …``.
    OSError
        The file cannot be read.
    """
    if str(path) == "-":
        return read(sys.stdin.buffer, "<stdin>")
    with open(path, "rb") as raw:
        return read(raw, str(path))
