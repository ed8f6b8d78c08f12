# SPDX-License-Identifier: Apache-2.0
"""PageTable: results, errors, arguments that must be refused, threads. The bits are tested in C."""

from __future__ import annotations

import errno
import gc
import threading
import weakref

import numpy as np
import pytest

from iommufd_fast._core.pagetable import PageTable

MIB = 1 << 20
GIB = 1 << 30
HOLE = 2**64 - 1
TABLES = {"vtdss": {"va_bits": 48}, "amdv1": {"growing_top": True, "top_level": 1}, "mock": {"page_sizes": 4096 | MIB}}


@pytest.fixture(params=TABLES)
def table(request):
    with PageTable(request.param, **TABLES[request.param]) as table:
        yield table
        assert table.is_valid()


def raises(number: int, text: str = ""):
    return pytest.raises(OSError, match=rf"(?s).*{text}", check=lambda e: e.errno == number)


def test_map_translate_unmap(table):
    table.map(0x10000, 0x7F0000000000, 0x3000, prot="r")
    assert table.translate(0x12345) == 0x7F0000002345
    leaf = table.walk(0x12FFF)
    assert (leaf.iova, leaf.address, leaf.size) == (0x12000, 0x7F0000002000, 0x1000)
    assert (leaf.prot, leaf.level, leaf.dirty) == ("r", 0, False)
    assert table.translate(0x13000) is None and table.walk(0xFFFF) is None
    assert table.unmap(0x10000, 0x3000) == 0x3000
    assert table.translate(0x10000) is None
    assert table.unmap(0x10000, 0x1000) == 0


def test_outside_the_table_nothing_is_mapped():
    table = PageTable("vtdss", va_bits=39)
    assert table.aperture == (0, (1 << 39) - 1)
    assert table.translate(1 << 39) is None and table.walk(HOLE) is None and table.unmap(1 << 39, 4096) == 0
    with raises(errno.ERANGE):
        table.map(1 << 39, 0, 4096)


def test_map_errors(table):
    table.map(MIB, 0, 0x1000)
    with raises(errno.EADDRINUSE, "0x100000.*unmap it first"):
        table.map(MIB, 0x1000, 0x1000)
    with raises(errno.ENXIO):
        table.map(0x800, 0, 0x1000)
    with raises(errno.EINVAL):
        table.map(0, 0, 0)
    with raises(errno.EOVERFLOW):
        table.map(HOLE - 0xFFF, 0, 0x2000)
    with raises(errno.ERANGE):
        table.map(0, 1 << 60, 0x1000)
    with raises(errno.EINVAL):
        table.map(0, 0, 0x1000, prot=4)
    assert [leaf.iova for leaf in table.leaves()] == [MIB]


@pytest.mark.parametrize("wrong", [-1, 1 << 64])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_integers_out_of_range(table, wrong, position):
    arguments = [0x1000, 0x2000, 0x1000]
    arguments[position] = wrong
    name = ["iova", "address", "length"][position]
    with pytest.raises(ValueError, match=f"{name} is {wrong}"):
        table.map(*arguments)


@pytest.mark.parametrize("wrong", [1.0, "4096", None, b"x"])
def test_integers_of_the_wrong_type(table, wrong):
    with pytest.raises(TypeError, match="iova must be an integer"):
        table.translate(wrong)
    with pytest.raises(TypeError):
        table.map_many([wrong], [0], 4096)


@pytest.mark.parametrize("prot", ["", "x", "rwx", "wr", 32, -1])
def test_prot_values(table, prot):
    with pytest.raises(ValueError, match="prot"):
        table.map(0, 0, 0x1000, prot=prot)


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ({"format": "vtdss", "va_bits": 58}, errno.EINVAL),
        ({"format": "vtdss", "top_level": 1}, errno.EOPNOTSUPP),
        ({"format": "vtdss", "growing_top": True}, errno.EOPNOTSUPP),
        ({"format": "amdv1", "top_level": 0}, errno.EINVAL),
        ({"format": "mock", "force_coherent": True}, errno.EOPNOTSUPP),
        ({"format": "vtdss", "page_sizes": [8192]}, errno.EINVAL),
    ],
)
def test_shapes_that_a_format_does_not_have(arguments, number):
    with raises(number):
        PageTable(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"format": "arm"},
        {"format": None},
        {"va_bits": 65},
        {"oa_bits": -1},
        {"top_level": 8},
        {"page_sizes": []},
        {"page_sizes": 0},
        {"page_sizes": [4096, 5000]},
    ],
)
def test_arguments_that_make_no_shape(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        PageTable(**arguments)


def test_geometry():
    table = PageTable("vtdss", va_bits=48, page_sizes=(4096, 2 * MIB))
    assert (table.format, table.va_bits, table.oa_bits, table.top_level) == ("vtdss", 48, 52, 3)
    assert table.page_sizes == (4096, 2 * MIB)
    assert table.root % 4096 == 0 and hex(table.root) in repr(table)
    assert PageTable("amdv1", growing_top=True).aperture == (0, HOLE)


def test_largest_leaves_and_leaf_iteration():
    table = PageTable("vtdss", va_bits=48)
    table.map(0x3FE400000, 0x3FE400000, 0xC2200000)
    assert table.stats().leaves == {2 * MIB: 17, GIB: 3}
    leaves = list(table.leaves())
    assert sum(leaf.size for leaf in leaves) == 0xC2200000
    assert [leaf.iova for leaf in leaves] == sorted(leaf.iova for leaf in leaves)
    inside = list(table.leaves(0x400000000 + 5, 0x400000000 + GIB))
    assert [leaf.iova for leaf in inside] == [0x400000000, 0x400000000 + GIB]
    assert list(table.leaves(5, 4)) == [] and list(table.leaves(0, 0x3FE3FFFFF)) == []


def test_the_last_page_of_all():
    table = PageTable("amdv1", growing_top=True, top_level=1)
    table.map(HOLE - 0xFFFF, 0, 0x10000)
    assert [leaf.iova for leaf in table.leaves()] == [HOLE - 0xFFFF]
    assert table.top_level == 5 and table.translate(HOLE) == 0xFFFF


def test_map_many_is_all_or_nothing(table):
    iovas = np.arange(10, dtype=np.uint64) * 0x2000
    table.map(0xE000, 0, 0x1000)
    before = list(table.leaves())
    with raises(errno.EADDRINUSE, "element 7"):
        table.map_many(iovas, iovas, 0x1000)
    assert list(table.leaves()) == before
    table.unmap(0xE000, 0x1000)
    table.map_many(iovas, iovas + 0x100000, 0x1000, prot="w")
    addresses, prots = table.translate_many(np.concatenate([iovas, iovas + 0x1000]))
    assert addresses.tolist() == [*(iovas + 0x100000).tolist(), *[HOLE] * 10]
    assert prots.tolist() == [2] * 10 + [0] * 10
    assert table.unmap_many([0, 1, 0x2000, 0x1000], [0x1000, 0x1000, 0x1000, 4]).tolist() == [0x1000, 0, 0x1000, 0]


def test_batches_take_lists_and_lengths(table):
    table.map_many([0, 0x10000], [0x5000, 0x8000], [0x1000, 0x3000])
    assert table.unmap_many([0, 0x10000], [0x1000, 0x3000]).tolist() == [0x1000, 0x3000]
    table.map_many([], [], 0x1000)
    assert table.unmap_many([], []).shape == (0,)
    assert [a.shape for a in table.translate_many([])] == [(0,), (0,)]
    assert table.translate_many([HOLE, 0])[0].tolist() == [HOLE, HOLE]


@pytest.mark.parametrize(
    ("iovas", "error"),
    [
        (np.array([1.0]), TypeError),
        (np.array([True]), TypeError),
        ([-1], ValueError),
        ([1 << 64], ValueError),
        ([[1, 2]], ValueError),
        (5, ValueError),
    ],
)
def test_batches_refuse(table, iovas, error):
    with pytest.raises(error, match="iovas"):
        table.translate_many(iovas)
    with pytest.raises(error):
        table.map_many(iovas, iovas, 4096)


def test_batches_refuse_different_lengths(table):
    with pytest.raises(ValueError, match="addresses has 1 elements, must have 2"):
        table.map_many([0, 0x1000], [0], 0x1000)
    with pytest.raises(ValueError, match="lengths has 3"):
        table.unmap_many([0, 0x1000], [1, 2, 3])
    table.map_many(np.arange(20, dtype=np.uint64)[::10] * 0x1000, np.zeros(2, np.int32), 0x1000)  # strided, narrow
    assert len(list(table.leaves())) == 2


def test_dirty(table):
    table.map(0, 0, 0x4000)
    table.set_dirty(0x1234)
    assert table.walk(0x1000).dirty
    starts, lengths = table.dirty(0, 0xFFFF)
    assert (starts.tolist(), lengths.tolist()) == ([0x1000], [0x1000]) or table.format == "amdv1"
    covered = [(int(s), int(s + n)) for s, n in zip(starts, lengths, strict=True)]
    assert any(s <= 0x1000 and e >= 0x2000 for s, e in covered)
    table.dirty(0, 0xFFFF, clear=True)
    assert table.dirty(0, 0xFFFF)[0].size == 0 and not table.walk(0x1000).dirty
    with raises(errno.ENOENT):
        table.set_dirty(0x8000)


def test_dirty_as_linux_reports_it():
    table = PageTable("mock")
    table.map(0x4000, 0, 0x4000)
    table.set_dirty(0x4000)
    assert [a.tolist() for a in table.dirty(0, 0xFFFF, exact=False)] == [[0x4000], [0x3800]]
    assert [a.tolist() for a in table.dirty(0, 0xFFFF)] == [[0x4000], [0x4000]]
    with raises(errno.ERANGE):
        table.dirty(0, 1 << 60)


def test_empty_tables_stay_until_trim(table):
    table.map(0x10000, 0, 0x1000)
    assert table.unmap(0x10000, 0x1000) == 0x1000
    assert table.stats().empty_tables == 1 and table.stats().tables > 1
    table.trim()
    stats = table.stats()
    assert (stats.tables, stats.leaves) == (1, {}) and stats.table_bytes <= 16384


def test_tables_are_copies(table):
    table.map(0x10000, 0x20000, 0x1000)
    tables = table.tables()
    assert [level for _, level, _ in tables] == list(range(table.top_level, -1, -1))
    assert tables[0][0] == table.root
    lowest = tables[-1][2].copy()
    assert np.count_nonzero(lowest) == (2 if table.format == "mock" else 1)
    table.unmap(0x10000, 0x1000)
    assert (tables[-1][2] == lowest).all()


def test_closed_tables_refuse(table):
    other = PageTable(table.format, **TABLES[table.format])
    other.close()
    other.close()
    assert other.closed and "closed" in repr(other)
    for call in (
        lambda: other.map(0, 0, 4096),
        lambda: other.unmap(0, 4096),
        lambda: other.translate(0),
        lambda: other.walk(0),
        lambda: other.translate_many([0]),
        lambda: other.map_many([0], [0], 4096),
        lambda: other.unmap_many([0], 4096),
        lambda: list(other.leaves()),
        lambda: other.tables(),
        lambda: other.stats(),
        lambda: other.trim(),
        lambda: other.dirty(0, 1),
        lambda: other.root,
        lambda: other.is_valid(),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_initialised_once(table):
    with pytest.raises(TypeError, match="once"):
        table.__init__("vtdss")


def test_a_failed_constructor_leaves_nothing_half_made():
    half = PageTable.__new__(PageTable)
    with pytest.raises(ValueError, match="closed"):
        half.map(0, 0, 4096)


def test_weakly_referenced():
    table = PageTable()
    reference = weakref.ref(table)
    del table
    gc.collect()
    assert reference() is None


def test_threads_share_one_table(table):
    wrong, stop = [], threading.Event()
    slots = np.arange(64, dtype=np.uint64) * 0x30000

    def mapper(number: int) -> None:
        iovas = slots + np.uint64(number * 0x10000)
        for _ in range(60):
            table.map_many(iovas, iovas + np.uint64(GIB), 0x8000)
            if not (table.translate_many(iovas)[0] == iovas + np.uint64(GIB)).all():
                wrong.append("mine")
            if not (table.unmap_many(iovas, 0x8000) == 0x8000).all():
                wrong.append("unmap")

    def reader() -> None:
        iovas = np.arange(1000, dtype=np.uint64) * 0x1000
        while not stop.is_set():
            addresses, prots = table.translate_many(iovas)
            if not ((addresses == iovas + np.uint64(GIB)) == (prots != 0)).all():
                wrong.append("reader")

    threads = [threading.Thread(target=mapper, args=(n,)) for n in range(3)]
    watcher = threading.Thread(target=reader)
    for thread in (*threads, watcher):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    watcher.join()
    assert not wrong and list(table.leaves()) == []


def test_close_while_others_translate():
    for _ in range(20):
        table = PageTable("vtdss", va_bits=48)
        table.map(0, 0, 4 * MIB)
        iovas = np.arange(100_000, dtype=np.uint64)
        results = []

        def translate(table=table, iovas=iovas, results=results) -> None:
            try:
                while True:
                    results.append(table.translate_many(iovas)[0][-1] == 99_999)
            except ValueError as error:
                results.append("closed" in str(error))

        thread = threading.Thread(target=translate)
        thread.start()
        while not results:
            pass
        table.close()
        thread.join()
        assert all(results)


@pytest.mark.parametrize(
    "format, shape, sizes",
    [
        ("x86_64", {}, [4096, 2 * MIB, GIB]),
        ("riscv64", {"va_bits": 39, "napot": True}, [4096, 65536, 2 * MIB, GIB]),
        ("riscv64_x4", {"va_bits": 41}, [4096, 2 * MIB, GIB]),
        ("arm_s1", {"granule": 16384}, [16384, 32 * MIB]),
        ("arm_s1", {"granule": 65536}, [65536, 512 * MIB, 4096 * GIB]),
        ("arm_s2", {"va_bits": 40, "oa_bits": 40, "contiguous": True}, [4096, 65536, 2 * MIB, 32 * MIB, GIB, 16 * GIB]),
    ],
)
def test_shapes_of_formats(format, shape, sizes):
    with PageTable(format, **shape) as table:
        assert list(table.page_sizes) == sizes
        assert table.granule == sizes[0]
        assert set(table.features) == {name for name in shape if shape[name] is True}
        table.map(4 * sizes[0], 8 * sizes[0], 2 * sizes[0])
        assert table.walk(5 * sizes[0]).address == 9 * sizes[0]
        assert [len(items) for _, level, items in table.tables() if not level] == [sizes[0] // 8]
        assert table.is_valid()


def test_canonical_addresses():
    with PageTable("x86_64", va_bits=48, sign_extend=True) as table:
        table.map(2**64 - 4096, 0x1000, 4096)
        table.map(2**47 - 4096, 0x2000, 4096)
        assert table.translate(2**64 - 1) == 0x1FFF and table.translate(2**47 - 1) == 0x2FFF
        assert [leaf.iova for leaf in table.leaves()] == [2**47 - 4096, 2**64 - 4096]
        assert table.aperture == (0, 2**47 - 1)
        with raises(errno.ERANGE):
            table.map(2**47, 0, 4096)


def test_arguments_of_formats():
    with pytest.raises(TypeError, match=r"no argument 'napott'; features are .*napot"):
        PageTable("riscv64", napott=True)
    with pytest.raises(ValueError, match="granule is 8192; arm_s1 has 4096, 16384 and 65536"):
        PageTable("arm_s1", granule=8192)
    with pytest.raises(ValueError, match="granule is 16384; x86_64 has no choice"):
        PageTable("x86_64", granule=16384)
    with raises(errno.EINVAL, "no riscv64 table has this shape: va_bits=40"):
        PageTable("riscv64", va_bits=40)
    with raises(errno.EOPNOTSUPP, "features: napot"):
        PageTable("arm_s1", napot=True)


def test_arm_is_different():
    with PageTable("arm_s1") as table:
        table.map(0, 0, 4096)
        with raises(errno.EEXIST, "unmap it first"):
            table.map(0, 0, 4096)
        with raises(errno.EINVAL):
            table.map(1, 0, 4096)
        table.map(0, 0, 2 * MIB)  # a block takes the place of a table that is in use
        assert table.unmap(4096, 4096) == 0
        assert table.unmap(0, 2 * MIB) == 2 * MIB


def test_cut_merge_protect(table):
    table.map(0, 8 * MIB, 2 * MIB + 8192)
    before = list(table.leaves())
    table.cut(MIB, MIB, 4096)
    assert sum(leaf.size for leaf in table.leaves()) == 2 * MIB + 8192 and len(list(table.leaves())) > len(before)
    with raises(errno.EINVAL, "no page size is that small"):
        table.cut(0, 0, 1024)
    table.protect(MIB, 4096, "r")
    assert table.walk(MIB).prot == "r" and table.walk(MIB + 4096).prot == "rw"
    with raises(errno.ENOENT, "from end to end"):
        table.protect(2 * MIB, 3 * 4096, "r")
    for length in (0, 2**64):
        with pytest.raises(ValueError, match="length is"):
            table.protect(4096, length, "r")
    with pytest.raises(ValueError, match="length is 18446744073709551615"):
        table.protect(4096, 2**64 - 1, "r")
    table.protect(MIB, 4096, "rw")
    table.merge()
    assert [leaf[:4] for leaf in table.leaves()] == [leaf[:4] for leaf in before]


def test_image(table):
    table.map(0, 8 * MIB, 2 * MIB + 8192, "r")
    table.map(64 * MIB, 4096, 4096)
    image = table.image(MIB)
    config = {"format": table.format, "va_bits": table.va_bits, "top_level": table.top_level}
    foreign = PageTable.over((image, MIB), root=MIB, **config)
    assert list(foreign.scan()) == list(table.leaves())
    assert len(image) >= sum(len(items) for _, _, items in table.tables())
