# SPDX-License-Identifier: Apache-2.0
"""PageTable against a dictionary of pages, step by step."""

from __future__ import annotations

import errno
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from iommufd_fast._core.pagetable import PageTable

PAGE = 4096
PAGES = 3 * 512  # three lowest tables of VT-d's
places = st.integers(0, PAGES - 1) | st.sampled_from([0, 256, 512, 1024])
counts = st.integers(1, 8) | st.integers(1, PAGES) | st.sampled_from([256, 512, 1024])


class TableMachine(RuleBasedStateMachine):
    """`pages` maps a page number to (page number of memory, prot, first page of the leaf, pages of the leaf)."""

    shape: ClassVar[dict] = {}
    base = 0
    readable_only = False  # a writable leaf is readable too

    def __init__(self):
        super().__init__()
        self.table = PageTable(**self.shape)
        self.pages: dict[int, tuple[int, str, int, int]] = {}
        self.tables: set[int] = set()  # of ARM: the lowest tables that are there, empty or not

    def teardown(self):
        self.table.close()

    def place(self, page: int) -> int:
        return self.base + page * PAGE

    def leaf_pages(self, page: int, memory: int, left: int) -> int:
        both = self.place(page) | memory * PAGE
        return max(s for s in self.table.page_sizes if s >= PAGE and both % s == 0 and s <= left * PAGE) // PAGE

    def expected_map(self, page, count, memory, prot):
        taken = any(p in self.pages for p in range(page, page + count))
        while not taken and count:
            n = self.leaf_pages(page, memory, count)
            self.pages |= {page + i: (memory + i, prot, page, n) for i in range(n)}
            page, memory, count = page + n, memory + n, count - n
        return errno.EADDRINUSE if taken else 0

    def expected_unmap(self, page, count):
        at = page
        while at < page + count and at in self.pages and self.pages[at][2] == at:
            for i in range(n := self.pages[at][3]):
                del self.pages[at + i]
            at += n
        return (at - page) * PAGE

    @rule(page=places, count=counts, shift=st.sampled_from([0, 0, 0, 1, 512]), prot=st.sampled_from(["r", "w", "rw"]))
    def map(self, page, count, shift, prot):
        count, memory = min(count, PAGES - page), page + shift + 0x40000
        got = 0
        try:
            self.table.map(self.place(page), memory * PAGE, count * PAGE, prot)
        except OSError as error:
            got = error.errno
        assert got == self.expected_map(page, count, memory, prot)

    @rule(page=places, count=counts)
    def unmap(self, page, count):
        count = min(count, PAGES - page)
        assert self.table.unmap(self.place(page), count * PAGE) == self.expected_unmap(page, count)

    @rule(pages=st.lists(places, max_size=6))
    def map_many(self, pages):
        before = dict(self.pages)
        failed = False
        for page in pages:
            failed = failed or bool(self.expected_map(page, 1, page, "rw"))
            if failed:
                break
        if failed:
            self.pages = before
        iovas = [self.place(page) for page in pages]
        if failed:
            with pytest.raises(OSError, match="map_many"):
                self.table.map_many(iovas, [page * PAGE for page in pages], PAGE)
        else:
            self.table.map_many(iovas, [page * PAGE for page in pages], PAGE)

    @rule(pages=st.lists(st.tuples(places, st.integers(1, 600)), max_size=4))
    def unmap_many(self, pages):
        pages = [(page, min(count, PAGES - page)) for page, count in pages]
        expected = [self.expected_unmap(page, count) for page, count in pages]
        iovas, lengths = [self.place(p) for p, _ in pages], [n * PAGE for _, n in pages]
        assert self.table.unmap_many(iovas, lengths).tolist() == expected

    @rule(page=places, count=counts, size=st.sampled_from([1, 16, 512]))
    def cut(self, page, count, size):
        """Leaves that begin in the range or reach into it; what is translated stays the same."""
        count = min(count, PAGES - page)
        size = max(s for s in self.table.page_sizes if s <= size * PAGE) // PAGE
        self.table.cut(self.place(page), self.place(page + count) - 1, size * PAGE)
        met = {self.pages[p][2:] for p in range(page, page + count) if p in self.pages}
        for first, n in met:
            if n <= size:
                continue
            for p in range(first, first + n):
                self.pages[p] = (*self.pages[p][:2], p - (p - first) % size, size)
            if size < 512 <= n:
                self.tables.update(range(first // 512, (first + n - 1) // 512 + 1))

    @rule()
    def merge(self):
        """Leaves only grow, and never over a page that translates otherwise (`agrees` looks at the pages)."""
        self.table.merge()
        for leaf in self.table.leaves():
            first, n = (leaf.iova - self.base) // PAGE, leaf.size // PAGE
            assert n >= max(self.pages[p][3] for p in range(first, first + n))
            for p in range(first, first + n):
                self.pages[p] = (*self.pages[p][:2], first, n)
        self.trim()

    @rule(page=places, count=counts, prot=st.sampled_from(["r", "rw"]))
    def protect(self, page, count, prot):
        """All of it or, where it is not mapped by whole leaves, nothing."""
        count = min(count, PAGES - page)
        hole = any(p not in self.pages for p in range(page, page + count))
        inside = [self.pages[p][2:] for p in (page, page + count - 1) if p in self.pages]
        whole = all(page <= first and first + n <= page + count for first, n in inside)
        try:
            self.table.protect(self.place(page), count * PAGE, prot)
        except OSError as error:
            assert (error.errno == errno.ENOENT and hole) or (error.errno == errno.EINVAL and not whole)
            return
        assert whole and not hole
        for p in range(page, page + count):
            self.pages[p] = (self.pages[p][0], prot, *self.pages[p][2:])

    @rule(pages=st.lists(places, max_size=4))
    def dirty(self, pages):
        """What was marked is reported, by whole leaves, and is clean after that."""
        if self.table.format not in ("vtdss", "amdv1", "mock"):
            return
        span = (self.place(0), self.place(PAGES) - 1)
        self.table.dirty(*span, clear=True)
        marked = [page for page in pages if page in self.pages]
        for page in marked:
            self.table.set_dirty(self.place(page))
        expected = {p for m in marked for p in range(self.pages[m][2], sum(self.pages[m][2:]))}
        for again in (expected, set()):
            starts, lengths = self.table.dirty(*span, clear=True)
            ranges = zip(((starts - np.uint64(self.base)) // PAGE).tolist(), (lengths // PAGE).tolist(), strict=True)
            assert {p for first, n in ranges for p in range(first, first + n)} == again

    @rule()
    def trim(self):
        self.table.trim()
        self.tables = {page // 512 for page, (_, _, _, n) in self.pages.items() if n < 512}

    @invariant()
    def agrees(self):
        assert self.table.is_valid()
        iovas = np.uint64(self.base + 3) + np.arange(PAGES, dtype=np.uint64) * np.uint64(PAGE)
        addresses, prots = self.table.translate_many(iovas)
        expected = np.full(PAGES, 2**64 - 1, np.uint64)
        bits = np.zeros(PAGES, np.uint8)
        for page, (memory, prot, _, _) in self.pages.items():
            write = 3 if self.readable_only else 2
            expected[page], bits[page] = memory * PAGE + 3, {"r": 1, "w": write, "rw": 3}[prot]
        assert (addresses == expected).all() and (prots == bits).all()
        leaves = {((leaf.iova - self.base) // PAGE, leaf.size // PAGE) for leaf in self.table.leaves()}
        assert leaves == {(first, n) for _, _, first, n in self.pages.values()}


class VtdssMachine(TableMachine):
    shape: ClassVar[dict] = {"format": "vtdss", "va_bits": 48}
    base = (1 << 39) - 512 * PAGE  # around a border of the second-highest level


class Amdv1Machine(TableMachine):
    shape: ClassVar[dict] = {"format": "amdv1", "top_level": 1, "growing_top": True}
    base = (1 << 30) - 512 * PAGE  # around the border where the top grows


class MockMachine(TableMachine):
    shape: ClassVar[dict] = {"format": "mock", "page_sizes": 4096 | 1 << 20}
    base = (1 << 29) - 512 * PAGE


class X86Machine(TableMachine):
    shape: ClassVar[dict] = {"format": "x86_64", "va_bits": 57, "sign_extend": True}
    base = 2**64 - 2**56  # where the upper half begins
    readable_only = True


class RiscvMachine(TableMachine):
    shape: ClassVar[dict] = {"format": "riscv64", "va_bits": 39, "napot": True}
    readable_only = True


class RiscvX4Machine(TableMachine):
    shape: ClassVar[dict] = {"format": "riscv64_x4", "va_bits": 41}
    base = (1 << 40) - 512 * PAGE  # around a border of two tables of the root
    readable_only = True


class ArmS2Machine(TableMachine):
    """ARM's rules: a block replaces a table with all its leaves; unmap goes by blocks."""

    shape: ClassVar[dict] = {"format": "arm_s2", "va_bits": 40, "oa_bits": 40}
    base = (1 << 39) - 512 * PAGE

    def in_the_way(self, page, n):
        if n == 512:
            return self.pages.get(page, (0, "", 0, 0))[3] == 512
        if self.pages.get(page, (0, "", 0, 0))[3] != 512:
            self.tables.add(page // 512)
        return any(p in self.pages for p in range(page, page + n))

    def expected_map(self, page, count, memory, prot):
        start = page
        while count:
            n = self.leaf_pages(page, memory, count)
            if self.in_the_way(page, n):
                self.expected_unmap(start, page - start)
                return errno.EEXIST
            if n == 512:
                self.tables.discard(page // 512)
            self.pages |= {page + i: (memory + i, prot, page, n) for i in range(n)}
            page, memory, count = page + n, memory + n, count - n
        return 0

    def expected_unmap(self, page, count):
        at, end = page, page + count
        while at < end:
            n = self.leaf_pages(at, self.place(at) // PAGE, end - at)
            leaf = self.pages.get(at, (0, "", 0, 0))[3]
            if leaf > n or (not leaf and not (n == 512 and at // 512 in self.tables)):
                break
            for p in range(at, at + n):
                self.pages.pop(p, None)
            if n == 512:
                self.tables.discard(at // 512)
            at += n
        return (at - page) * PAGE


class ArmS1Machine(ArmS2Machine):
    shape: ClassVar[dict] = {"format": "arm_s1", "va_bits": 48}
    base = (1 << 47) - 512 * PAGE
    readable_only = True


steps = settings(settings.default, stateful_step_count=25)
for machine in TableMachine.__subclasses__() + ArmS2Machine.__subclasses__():
    machine.TestCase.settings = steps
TestVtdss, TestAmdv1, TestMock = VtdssMachine.TestCase, Amdv1Machine.TestCase, MockMachine.TestCase
TestX86, TestRiscv, TestRiscvX4 = X86Machine.TestCase, RiscvMachine.TestCase, RiscvX4Machine.TestCase
TestArmS1, TestArmS2 = ArmS1Machine.TestCase, ArmS2Machine.TestCase
