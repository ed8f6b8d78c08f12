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

    def __init__(self):
        super().__init__()
        self.table = PageTable(**self.shape)
        self.pages: dict[int, tuple[int, str, int, int]] = {}

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

    @rule()
    def trim(self):
        self.table.trim()

    @invariant()
    def agrees(self):
        assert self.table.is_valid()
        iovas = self.base + np.arange(PAGES, dtype=np.uint64) * PAGE + 3
        addresses, prots = self.table.translate_many(iovas)
        expected = np.full(PAGES, 2**64 - 1, np.uint64)
        bits = np.zeros(PAGES, np.uint8)
        for page, (memory, prot, _, _) in self.pages.items():
            expected[page], bits[page] = memory * PAGE + 3, {"r": 1, "w": 2, "rw": 3}[prot]
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


steps = settings(settings.default, stateful_step_count=25)
for machine in (VtdssMachine, Amdv1Machine, MockMachine):
    machine.TestCase.settings = steps
TestVtdss, TestAmdv1, TestMock = VtdssMachine.TestCase, Amdv1Machine.TestCase, MockMachine.TestCase
