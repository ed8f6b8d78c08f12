# SPDX-License-Identifier: Apache-2.0
"""Walks over tables in memory that is not ours: every kind of memory, the same answers, no harm from garbage."""

from __future__ import annotations

import errno
import mmap
from random import Random

import numpy as np
import pytest

from iommufd_fast._core.pagetable import PageTable
from iommufd_fast._core.ptforeign import ForeignPageTable

MIB = 1 << 20
FORMATS = {
    "vtdss": {"va_bits": 48},
    "amdv1": {},
    "mock": {},
    "x86_64": {"sign_extend": True},
    "riscv64": {"napot": True, "sign_extend": True},
    "riscv64_x4": {"va_bits": 50},
    "arm_s1": {"granule": 4096},
    "arm_s2": {"va_bits": 40, "top_level": 2, "contiguous": True},
}


def raises(number: int):
    return pytest.raises(OSError, check=lambda e: e.errno == number)


@pytest.fixture(params=FORMATS)
def table(request):
    table = PageTable(request.param, **FORMATS[request.param])
    table.map(0x1FE000, 0x1FE000, 4 * MIB + 0x4000, prot="rw")
    table.map(64 * MIB, 0x5000, 0x3000, prot="r")
    return table


def over(table: PageTable, memory, **others) -> ForeignPageTable:
    shape = {"format": table.format, "root": table.root, "top_level": table.top_level, "va_bits": table.va_bits}
    shape |= dict.fromkeys(table.features, True)
    return PageTable.over(memory, **(shape | others))


def memories(table: PageTable):
    tables = table.tables()
    items = {address + 8 * i: int(v) for address, _, row in tables for i, v in enumerate(row)}
    yield "callable", items.get
    yield "mapping", {address: row for address, _, row in tables}
    yield "pairs", [(row, address) for address, _, row in reversed(tables)]
    yield "bytes", [(row.tobytes(), address) for address, _, row in tables]


def test_every_kind_of_memory(table):
    iovas = [0, 0x1FE000, 0x1FE123, 0x200000, 3 * MIB, 64 * MIB + 5, 64 * MIB + 0x3000, 1 << 40]
    expected = [table.walk(iova) for iova in iovas]
    assert sum(leaf is not None for leaf in expected) == 5
    for kind, memory in memories(table):
        foreign = over(table, memory)
        assert [foreign.walk(iova) for iova in iovas] == expected, kind
        assert [foreign.translate(iova) for iova in iovas] == [table.translate(iova) for iova in iovas], kind
        for ours, theirs in zip(table.translate_many(iovas), foreign.translate_many(iovas), strict=True):
            assert (ours == theirs).all(), kind


def test_one_buffer_with_a_base():
    memory = mmap.mmap(-1, 3 * 4096)
    items = np.frombuffer(memory, np.uint64).reshape(3, 512)
    foreign = PageTable.over((memory, 0x8000), format="vtdss", root=0x8000, top_level=2)
    assert foreign.walk(0) is None
    items[0, 0], items[1, 0], items[2, 5] = 0x9003, 0xA003, 0x1234000 | 3  # the memory is used in place
    assert foreign.translate(5 * 4096 + 7) == 0x1234007
    items[2, 5] = 0
    assert foreign.translate(5 * 4096) is None
    assert "0x8000" in repr(foreign)


def test_tables_outside_the_memory(table):
    lowest = [address for address, level, _ in table.tables() if level == 0]
    memory = {address: row for address, _, row in table.tables() if address not in lowest}
    with raises(errno.EFAULT):
        over(table, memory).walk(64 * MIB)
    with raises(errno.EFAULT):
        over(table, lambda address: None).translate(0)
    with raises(errno.EFAULT):
        over(table, {}).translate_many([0])
    short = {address: row[:1] for address, _, row in table.tables()}
    with raises(errno.EFAULT):
        over(table, short).walk(64 * MIB)


def test_errors_of_the_callable_come_through(table):
    def broken(address):
        raise LookupError(f"no {address:#x}")

    with pytest.raises(LookupError, match=f"no {table.root:#x}"):
        over(table, broken).walk(0)
    with pytest.raises(TypeError, match="the item that the reader returned"):
        over(table, lambda address: "x").walk(0)
    with pytest.raises(ValueError, match="the item that the reader returned"):
        over(table, lambda address: -1).walk(0)


@pytest.mark.parametrize(
    "others", [{"root": 0x1008}, {"top_level": 7}, {"top_level": 0}, {"va_bits": 64, "format": "vtdss"}]
)
def test_impossible_shapes(table, others):
    with raises(errno.EINVAL):
        over(table, {}, **others)


def test_arguments(table):
    with pytest.raises(ValueError, match="format"):
        over(table, {}, format="pdp11")
    with pytest.raises(ValueError, match="overlap"):
        over(table, [(b"x" * 4096, 0x1000), (b"x" * 8, 0x1FF8)])
    with pytest.raises(ValueError, match="contiguous"):
        over(table, {0: np.zeros((4, 512), np.uint64)[:, ::2]})
    with pytest.raises((TypeError, ValueError)):
        over(table, 5)
    foreign = over(table, {})
    with pytest.raises(TypeError, match="once"):
        foreign.__init__({}, format="vtdss", root=0, top_level=2)


def test_a_loop_is_no_loop():
    looped = np.full(512, 0x1000 | 3, np.uint64)
    foreign = PageTable.over({0x1000: looped}, format="vtdss", root=0x1000, top_level=4)
    assert foreign.walk(0).address == 0x1000  # after five items the lowest level takes it for a leaf


FLAGS = {"amdv": [0, 1, 0x201, 0x401, 0x601], "mock": [0, 1, 0x201, 0x401, 0x601], "risc": [0, 1, 1, 0x13, 0xDF]}


@pytest.mark.parametrize("format", FORMATS)
def test_garbage_gives_an_answer_or_an_error(format):
    random, base = Random(7), 0x10000
    flags = FLAGS.get(format[:4], [0, 1, 3, 0x83])
    reads = 0

    def read(address):
        nonlocal reads
        reads += 1
        if random.random() < 0.2:
            return random.getrandbits(64)
        return (base + random.randrange(8) * 4096) >> (2 if format.startswith("riscv") else 0) | random.choice(flags)

    foreign = PageTable.over(read, format=format, root=base, top_level=3)
    seen = set()
    for _ in range(3000):
        reads = 0
        try:
            seen.add(foreign.walk(random.getrandbits(38)) is not None)
        except OSError as error:
            assert error.errno == errno.EINVAL
            seen.add(error.errno)
        assert reads <= 4
    assert seen == {True, False, errno.EINVAL}
