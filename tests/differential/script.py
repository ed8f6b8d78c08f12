# SPDX-License-Identifier: Apache-2.0
"""Scripts for executor.c, and its traces: the two file formats, and nothing that knows iommufd."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

MAGIC = 0x46464944
OPS = ("open", "close", "ioctl", "read", "write", "poll", "mmap", "munmap", "peek", "fill", "limit", "dup", "digest")
TO = {"fd": 0xFFFF, "a": 0xFFFE, "b": 0xFFFD, "c": 0xFFFC, "d": 0xFFFB}
WITH_HUGE, WITHOUT_IPC_LOCK, WITHOUT_RESOURCE = 1, 2, 4


@dataclass(frozen=True)
class Ref:
    """What step `label` gave: its return value (width 0), or `width` bytes at `offset` of its struct; plus `add`."""

    label: int
    offset: int = 0
    width: int = 0
    add: int = 0

    def __add__(self, other: int) -> Ref:
        return Ref(self.label, self.offset, self.width, self.add + other)

    def __str__(self) -> str:
        what = f"result({self.label})" if not self.width else f"step({self.label})[{self.offset}:{self.width}]"
        return what + (f"+{self.add:#x}" if self.add else "")


Value = int | Ref


@dataclass
class Step:
    op: str
    label: int
    name: str  # the command, for people and for the coverage table
    args: dict[str, Value] = field(default_factory=dict)  # fd, a, b, c, d
    blobs: list[tuple[int, bytes]] = field(default_factory=list)
    fields: list[tuple[int, int, Value]] = field(default_factory=list)  # offset in the scratch memory, width, value

    def encode(self) -> bytes:
        numbers = {k: v for k, v in self.args.items() if not isinstance(v, Ref)}
        patches = [(TO[k], 8, v) for k, v in self.args.items() if isinstance(v, Ref)]
        patches += self.fields
        head = struct.pack(
            "<IBBBBi4Q",
            self.label,
            OPS.index(self.op),
            len(self.blobs),
            len(patches),
            0,
            signed(numbers.get("fd", -1), 32),
            *(numbers.get(k, 0) & (1 << 64) - 1 for k in "abcd"),
        )
        parts = [head]
        parts += [struct.pack("<HH", offset, len(data)) + data for offset, data in self.blobs]
        parts += [encode_patch(*p) for p in patches]
        return b"".join(parts)


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def encode_patch(to: int, to_width: int, value: Value) -> bytes:
    if isinstance(value, Ref):
        return struct.pack("<HBBIHq", to, to_width, value.width, value.label, value.offset, signed(value.add, 64))
    return struct.pack("<HBBIHq", to, to_width, 0, 0xFFFFFFFF, 0, signed(value, 64))


@dataclass
class Sequence:
    number: int
    steps: list[Step]
    flags: int = 0
    memlock: int = 0  # pages that may be locked, with WITHOUT_IPC_LOCK

    def encode(self) -> bytes:
        labels = max((s.label for s in self.steps), default=0) + 1
        head = struct.pack("<6I", MAGIC, self.number, self.flags, self.memlock, len(self.steps), labels)
        return head + b"".join(s.encode() for s in self.steps)

    def with_steps(self, steps: list[Step]) -> Sequence:
        return Sequence(self.number, steps, self.flags, self.memlock)


@dataclass(frozen=True)
class Outcome:
    """What a step left behind: its result, errno, and the bytes of the scratch memory that changed."""

    label: int
    result: int
    errno: int
    changes: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class Trace:
    number: int
    status: int  # as waitpid() gave it
    outcomes: tuple[Outcome, ...]

    @property
    def end(self) -> str:
        if os.WIFSIGNALED(self.status):
            return f"killed by signal {os.WTERMSIG(self.status)}"
        return f"exit status {os.WEXITSTATUS(self.status)}"


def decode_outcomes(data: bytes) -> Iterable[Outcome]:
    at = 0
    while at < len(data):
        label, result, errno, n_runs = struct.unpack_from("<IqiI", data, at)
        at += 20
        changes = []
        for _ in range(n_runs):
            offset, length = struct.unpack_from("<II", data, at)
            changes.append((offset, data[at + 8 : at + 8 + length]))
            at += 8 + length
        yield Outcome(label, result, errno, tuple(changes))


def decode_traces(data: bytes) -> list[Trace]:
    traces, at = [], 0
    while at < len(data):
        number, status, size = struct.unpack_from("<IIQ", data, at)
        at += 16
        traces.append(Trace(number, status, tuple(decode_outcomes(data[at : at + size]))))
        at += size
    return traces
