# SPDX-License-Identifier: Apache-2.0
"""A kernel's answers to a list of sequences, kept: what ``make test`` holds the engine against without a guest.

The file is gzip; in it two parts, each with its length in front (u64): the script and the trace, as executor.c reads
and writes them.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

from .script import MAGIC, OPS, TO, Ref, Sequence, Step, Trace, decode_traces
from .structs import COMMANDS, TEST_NUMBER

FILE = Path(__file__).resolve().parent / "recorded.gz"
BY_NUMBER = {c.number: c.name for c in COMMANDS.values() if not c.op}
BY_OP = {c.op: c.name for c in COMMANDS.values() if c.op}
PLAIN = {0x3B64: "VFIO_GET_API_VERSION", 0x3B65: "VFIO_CHECK_EXTENSION", 0x3B66: "VFIO_SET_IOMMU"}
ARGUMENT = {number: name for name, number in TO.items()}
NO_LABEL = 0xFFFFFFFF


def save(script: bytes, trace: bytes, to: Path = FILE) -> None:
    data = b"".join(struct.pack("<Q", len(part)) + part for part in (script, trace))
    to.write_bytes(gzip.compress(data, 9, mtime=0))


def load(file: Path = FILE) -> tuple[list[Sequence], list[Trace]]:
    data = gzip.decompress(file.read_bytes())
    (size,) = struct.unpack_from("<Q", data)
    return decode_script(data[8 : 8 + size]), decode_traces(data[16 + size :])


def decode_script(data: bytes) -> list[Sequence]:
    found, at = [], 0
    while at < len(data):
        magic, number, flags, memlock, n_steps, _ = struct.unpack_from("<6I", data, at)
        assert magic == MAGIC
        sequence, at = Sequence(number, [], flags, memlock), at + 24
        for _ in range(n_steps):
            step, at = decode_step(data, at)
            sequence.steps.append(step)
        found.append(sequence)
    return found


def decode_step(data: bytes, at: int) -> tuple[Step, int]:
    label, op, n_blobs, n_patches, _, fd, *rest = struct.unpack_from("<IBBBBi4Q", data, at)
    at += 44
    step = Step(OPS[op], label, OPS[op], dict(zip("abcd", rest, strict=True)) | {"fd": fd})
    for _ in range(n_blobs):
        offset, length = struct.unpack_from("<HH", data, at)
        step.blobs.append((offset, data[at + 4 : at + 4 + length]))
        at += 4 + length
    for _ in range(n_patches):
        to, to_width, width, source, offset, add = struct.unpack_from("<HBBIHq", data, at)
        value = add if source == NO_LABEL else Ref(source, offset, width, add)
        if to in ARGUMENT:
            step.args[ARGUMENT[to]] = value
        else:
            step.fields.append((to, to_width, value))
        at += 18
    step.name = name_of(step)
    return step, at


def name_of(step: Step) -> str:
    """The command, as far as its number tells."""
    number = step.args["b"]
    if step.op != "ioctl":
        return step.op
    if number == TEST_NUMBER and step.blobs:
        return BY_OP.get(int.from_bytes(step.blobs[0][1][4:8], "little"), "TEST_UNKNOWN")
    return BY_NUMBER.get(number) or PLAIN.get(number, f"ioctl {number:#x}")
