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
    with pytest.raises(TypeError, match="through must be a page table, not int"):
        over(table, {}, through=5)
    with pytest.raises(ValueError, match="there are no three"):
        over(table, {}, through=over(table, {}, through=table))
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


def test_defaults():
    memory = np.zeros(8 * 512, np.uint64)
    memory[0], memory[512], memory[1024], memory[1536] = 0x1067, 0x2067, 0x3067, 0x5067
    foreign = PageTable.over(memory, format="x86_64", root=0, va_bits=48)  # a buffer alone begins at 0
    assert (foreign.top_level, foreign.format, foreign.root) == (3, "x86_64", 0)
    assert foreign.translate(0x123) == 0x5123
    assert PageTable.over({}, format="arm_s2", root=0, va_bits=40, oa_bits=40).top_level == 2
    with raises(errno.EINVAL):
        PageTable.over({}, format="arm_s2", root=4096, va_bits=40, oa_bits=40)  # a root of two tables
    with raises(errno.EINVAL):
        PageTable.over({}, format="riscv64", root=0, va_bits=40)


def test_faults_say_where():
    memory = {0x1000: np.zeros(512, np.uint64), 0x2000: np.zeros(512, np.uint64)}
    foreign = PageTable.over(memory, format="vtdss", root=0x1000, va_bits=39)
    memory[0x1000][5] = 0x2003
    memory[0x1000][6] = 0x7003
    memory[0x1000][7] = 0x1003
    memory[0x2000][8] = 0x100083
    at = 5 << 30
    hole = foreign.lookup(at)
    assert hole == ("hole", at, at, 1, 0x2000, 0x2000, 0, 1, None)
    assert str(hole) == "level 1, table 0x2000, entry 0: nothing is mapped"
    assert foreign.lookup(1 << 39).reason == "outside" and "outside the table" in str(foreign.lookup(1 << 39))
    missing = foreign.lookup((6 << 30) + (3 << 21))
    assert missing[:7] == ("memory", missing.iova, missing.iova, 1, 0x7000, 0x7018, 0)
    with pytest.raises(OSError, match="0x7018 is not in the memory") as caught:
        foreign.walk(missing.iova)
    assert caught.value.fault == missing
    reserved = foreign.lookup(at + (8 << 21))
    assert (reserved.reason, reserved.level, reserved.item) == ("reserved", 1, 0x100083)
    assert [r.reason for r in foreign.scan()] == ["reserved", "memory", "loop"]
    assert [(r.iova, r.last + 1 - r.iova) for r in foreign.scan()] == [
        (at + (8 << 21), 1 << 21),
        (6 << 30, 1 << 30),
        (7 << 30, 1 << 30),
    ]
    assert all(str(r) for r in foreign.scan())
    assert list(foreign.leaves()) == []
    assert foreign.path(at + (8 << 21)) == [(2, 0x1028, 0x2003), (1, 0x2040, 0x100083)]
    assert foreign.path(missing.iova) == [(2, 0x1030, 0x7003), (1, 0x7018, None)]


def test_scan_lists_what_the_table_lists(table):
    table.map(80 * MIB, 0x40000000, 32 * MIB)
    for kind, memory in memories(table):
        assert list(over(table, memory).scan()) == list(table.leaves()), kind
        assert list(over(table, memory).leaves(3 * MIB, 64 * MIB)) == list(table.leaves(3 * MIB, 64 * MIB)), kind


SHIFT = 1 << 47


def stages(first, second):
    """A first stage whose tables lie SHIFT further than it says, as the second stage says."""
    for address, _, items in first.tables():
        for page in range(address & ~4095, address + 8 * len(items), 4096):
            if second.translate(page) is None:
                second.map(page, page + SHIFT, 4096)
    return {address + SHIFT: items for address, _, items in first.tables()}


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
@pytest.mark.parametrize("second", ["vtdss", "amdv1", "riscv64_x4", "arm_s2"])
@pytest.mark.parametrize("first", ["x86_64", "riscv64", "arm_s1"])
def test_two_stages(first, second, own):
    random = Random(3)
    one, two = PageTable(first, va_bits=48), PageTable(second, **{"riscv64_x4": {"va_bits": 50}}.get(second, {}))
    for page in range(400):
        if page % 5:
            one.map(page * 4096, MIB + random.randrange(400) * 4096, 4096, "rw" if page % 3 else "r")
        if page % 7:
            two.map(MIB + page * 4096, 64 * MIB + page * 8192, 4096, "rw" if page % 4 else "r")
    memory = stages(one, two)
    through = two if own else over(two, {address: items for address, _, items in two.tables()})
    both = over(one, memory, through=through)
    iovas = [random.randrange(420 * 4096) for _ in range(1000)]
    expected = [None if (guest := one.translate(iova)) is None else two.translate(guest) for iova in iovas]
    assert [both.translate(iova) for iova in iovas] == expected
    addresses, prots = both.translate_many(iovas)
    assert [None if a == 2**64 - 1 else a for a in addresses.tolist()] == expected
    assert [a is not None for a in expected] == [p != 0 for p in prots.tolist()]
    for iova, a in zip(iovas, expected, strict=True):
        found = both.lookup(iova)
        if a is not None:
            limits = {one.walk(iova).prot, two.walk(one.translate(iova)).prot}
            assert (found.address + iova - found.iova, found.prot) == (a, "r" if "r" in limits else "rw")
        elif one.translate(iova) is None:
            assert (found.reason, found.stage, found.iova) == ("hole", 1, iova)
        else:
            assert (found.reason, found.stage, found.iova) == ("hole", 2, one.translate(iova))
    assert two.unmap(one.root, 4096) == 4096
    if own:
        fault = both.lookup(4096)
        assert (fault.stage, fault.fetch_level, fault.reason, fault.iova >> 12) == (2, 3, "hole", one.root >> 12)
        assert "while stage 1 fetched level 3" in str(fault)
    with pytest.raises(ValueError, match="two"):
        next(both.scan())
    with pytest.raises(ValueError, match="two"):
        both.path(0)
    assert "through <" in repr(both)


def test_two_stages_with_a_callable():
    one, two = PageTable("x86_64"), PageTable("vtdss", va_bits=48)
    one.map(0, MIB, 8192)
    two.map(MIB, 0x5000, 8192)
    items = {base + 8 * i: int(v) for base, row in stages(one, two).items() for i, v in enumerate(row)}
    assert over(one, items.get, through=two).translate_many([5, 4101, 9000])[0].tolist() == [0x5005, 0x6005, 2**64 - 1]

    def broken(address):
        raise LookupError("no")

    for call in ("translate", "lookup", "translate_many"):
        with pytest.raises(LookupError, match="no"):
            getattr(over(one, broken, through=two), call)([5] if call == "translate_many" else 5)


def test_tables_that_multiply_have_an_end():
    """Every entry of each table points to the next table, and the lowest is empty: 512**4 entries in five pages."""
    memory = {0x1000 * (n + 1): np.full(512, 0x1000 * (n + 2) | 3, np.uint64) for n in range(4)} | {
        0x5000: np.zeros(512, np.uint64)
    }
    foreign = PageTable.over(memory, format="vtdss", root=0x1000, va_bits=57)
    assert list(foreign.scan()) == []


def test_no_end_in_sight_is_a_fault():
    """The same with so many tables a level that nobody remembers which were empty."""
    memory = {0x1000: np.zeros(512, np.uint64)}
    for level in range(1, 5):
        for n in range(512):
            below = np.arange(512, dtype=np.uint64) * 4096 + np.uint64((level + 1) << 32 | 3)
            memory[(level << 32) + n * 4096] = below if level < 4 else np.zeros(512, np.uint64)
    memory[0x1000][:] = np.arange(512, dtype=np.uint64) * 4096 + np.uint64(1 << 32 | 3)
    foreign = PageTable.over(memory, format="vtdss", root=0x1000, va_bits=57)
    (fault,) = foreign.scan()
    assert (fault.reason, fault.last) == ("endless", 2**57 - 1) and "no end is in sight" in str(fault)
