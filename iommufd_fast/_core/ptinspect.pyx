# SPDX-License-Identifier: Apache-2.0
"""InspectableTable: what looks at a whole page table: leaves, dirty bits, dumps, counts, trimming, the checker."""
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from collections import namedtuple

import numpy as np

from iommufd_fast._core._fail import fail

Stats = namedtuple("Stats", "leaves tables empty_tables recycled_tables table_bytes", module=__name__)
Stats.__doc__ = "Leaves by size in bytes (a dict); linked tables; those without an entry; unused ones; bytes of all."

# Where the C visitors write: at most `room` records, but all are counted.
cdef struct Ranges:
    uint64_t *starts
    uint64_t *lengths
    size_t n, room

cdef struct Dump:
    uint64_t *heads  # address, level, number of items
    uint64_t *items  # of all tables, one after the other
    size_t n, room, items_n, items_room


cdef void add_range(void *ctx, uint64_t start, uint64_t length) noexcept nogil:
    cdef Ranges *r = <Ranges *>ctx
    if r.n < r.room:
        r.starts[r.n] = start
        r.lengths[r.n] = length
    r.n += 1


cdef void add_table(void *ctx, uint64_t address, unsigned int level, const uint64_t *items, size_t n) noexcept nogil:
    cdef Dump *d = <Dump *>ctx
    if d.n < d.room and d.items_n + n <= d.items_room:
        d.heads[d.n * 3] = address
        d.heads[d.n * 3 + 1] = level
        d.heads[d.n * 3 + 2] = n
        memcpy(&d.items[d.items_n], items, n * sizeof(uint64_t))
    d.n += 1
    d.items_n += n


cdef class InspectableTable(Table):
    """The part of PageTable that looks; PageTable has what maps and translates."""

    cdef object next_leaf(self, uint64_t start, uint64_t last):
        cdef iof_pt_leaf leaf
        cdef iof_range within = [start, last]
        cdef unsigned int token
        cdef int err = iof_pt_next_leaf(self.enter(&token), within, &leaf)
        self.leave(token)
        return None if err else pt_leaf(&leaf)

    def leaves(self, start=0, last=2**64 - 1):
        """Iterate over the leaves that intersect [start, last], ascending. Others may map and unmap meanwhile."""
        at, last = pt_u64(start, "start"), pt_u64(last, "last")
        while at <= last and (leaf := self.next_leaf(at, last)) is not None:
            yield leaf
            at = leaf.iova + leaf.size

    def _repr_svg_(self):
        from iommufd_fast._core._picture import svg_of
        return svg_of(self)

    def set_dirty(self, iova):
        """Set the dirty bit of the one item that translates `iova`, as a device's write does.

        Raises
        ------
        OSError
            ENOENT: nothing is mapped there.
        """
        cdef uint64_t at = pt_u64(iova, "iova")
        cdef iof_pt_gather g
        memset(&g, 0, sizeof(g))
        cdef int err = iof_pt_set_dirty(self.lock(), at)
        self.unlock(&g)
        if err:
            fail(err, f"set_dirty {at:#x}: nothing is mapped there")

    def dirty(self, start, last, *, bint clear=False, bint exact=True):
        """What was written to in [start, last].

        Parameters
        ----------
        clear : bool
            Make it clean, in the same step.
        exact : bool
            Report whole leaves, which may begin before `start` and end after `last`. False: what Linux reports, one
            item short for a leaf of several items.

        Returns
        -------
        starts, lengths : ndarray of uint64, shape (n,)
        """
        cdef iof_range r = [pt_u64(start, "start"), pt_u64(last, "last")]
        cdef iof_pt_gather g
        cdef Ranges out
        cdef iof_pt *pt
        cdef int err
        memset(&g, 0, sizeof(g))
        memset(&out, 0, sizeof(out))
        while True:  # no Python object is made under the lock, and nothing is cleared that does not fit
            starts, lengths = np.empty(out.n, np.uint64), np.empty(out.n, np.uint64)
            out = Ranges(pt_data(starts), pt_data(lengths), 0, out.n)
            pt = self.lock()
            with nogil:
                err = iof_pt_read_dirty(pt, r, False, exact, add_range, &out)
                if clear and not err and out.n <= out.room:
                    out.n = 0
                    iof_pt_read_dirty(pt, r, True, exact, add_range, &out)
            self.unlock(&g)
            if err:
                fail(err, f"dirty [{r.start:#x}, {r.last:#x}]: outside the table, or this format has no dirty bits")
            if out.n <= out.room:
                return starts[:out.n], lengths[:out.n]

    def tables(self):
        """Copy every table, depth first and ascending: a list of (address, level, ndarray of uint64)."""
        cdef iof_pt_gather g
        cdef Dump out
        cdef iof_pt *pt
        memset(&g, 0, sizeof(g))
        memset(&out, 0, sizeof(out))
        while True:
            heads, items = np.empty((out.n, 3), np.uint64), np.empty(out.items_n, np.uint64)
            out = Dump(pt_data(heads), pt_data(items), 0, out.n, 0, out.items_n)
            pt = self.lock()
            with nogil:
                iof_pt_visit(pt, add_table, &out)
            self.unlock(&g)
            if out.n <= out.room and out.items_n <= out.items_room:
                break
        heads = heads[:out.n]
        ends = np.cumsum(heads[:, 2]).tolist()
        return [(a, l, items[end - n:end]) for (a, l, n), end in zip(heads.tolist(), ends)]

    def trim(self):
        """Free empty tables, and the memory of unused ones."""
        cdef iof_pt_gather g
        for _ in range(2):  # what the first pass unlinks can be freed by the second
            memset(&g, 0, sizeof(g))
            iof_pt_trim(self.lock(), &g)
            self.unlock(&g)

    def cut(self, start, last, size):
        """Cut every leaf that intersects [start, last] and is larger into leaves of at most `size` bytes.

        What is translated stays the same all the time; the pieces of a dirty leaf are dirty.
        """
        cdef iof_range r = [pt_u64(start, "start"), pt_u64(last, "last")]
        cdef iof_pt_gather g
        cdef uint64_t most = pt_u64(size, "size")
        cdef int err
        memset(&g, 0, sizeof(g))
        cdef unsigned int size_lg2 = max((<object>most).bit_length(), 1) - 1
        err = iof_pt_cut(self.lock(), r, size_lg2)
        self.unlock(&g)
        if err:
            fail(err, f"cut [{r.start:#x}, {r.last:#x}] to {most} bytes: no memory, or no page size is that small")

    def merge(self):
        """Merge leaves, and whole tables of them, into the largest that translate the same."""
        cdef iof_pt_gather g
        memset(&g, 0, sizeof(g))
        iof_pt_merge(self.lock(), &g)
        self.unlock(&g)

    def protect(self, iova, length, prot):
        """Give the leaves of [iova, iova + length) other permissions: all of them, or none on an error.

        Raises
        ------
        OSError
            EINVAL: the range begins or ends inside a leaf (cut it first); ENOENT: a hole; ERANGE.
        """
        cdef uint64_t at = pt_u64(iova, "iova"), size = pt_u64(length, "length")
        cdef unsigned int bits = pt_prot(prot)
        if not size or size - 1 > 2**64 - 1 - at:
            raise ValueError(f"length is {size}, outside 1 to 2**64 - iova")
        cdef iof_range r = [at, at + (size - 1)]
        cdef iof_pt_gather g
        memset(&g, 0, sizeof(g))
        cdef int err = iof_pt_protect(self.lock(), r, bits)
        self.unlock(&g)
        if err:
            fail(err, f"protect {at:#x}+{size:#x}: it must be mapped from end to end, and by whole leaves (cut them)")

    def image(self, base):
        """Copy all tables as they would be at address `base`, with table addresses to match.

        Parameters
        ----------
        base : int
            A multiple of the largest table's size. It is the root's address in the copy.

        Returns
        -------
        ndarray of uint64
            For `PageTable.over((image, base), root=base, ...)`, or to be written to a guest's memory or a file.
        """
        cdef uint64_t to = pt_u64(base, "base"), room = 0, need = 0
        cdef uint64_t *data
        cdef iof_pt_gather g
        cdef iof_pt *pt
        memset(&g, 0, sizeof(g))
        while True:
            out = np.zeros(room // 8, np.uint64)
            data = pt_data(out)
            pt = self.lock()
            with nogil:
                need = iof_pt_image(pt, to, NULL)
                if need <= room:
                    iof_pt_image(pt, to, data)
            self.unlock(&g)
            if need <= room:
                return out[:need // 8]
            room = need

    def stats(self):
        """Count leaves and tables, as Stats. Walks the whole table."""
        cdef iof_pt_gather g
        cdef iof_pt_stats s
        memset(&g, 0, sizeof(g))
        cdef iof_pt *pt = self.lock()
        with nogil:
            iof_pt_stats_get(pt, &s)
        self.unlock(&g)
        return Stats({1 << n: s.leaves[n] for n in range(64) if s.leaves[n]}, s.tables, s.empty_tables,
                     s.recycled_tables, s.table_bytes)

    def is_valid(self):
        """Re-derive the whole structure; for tests."""
        cdef iof_pt_gather g
        memset(&g, 0, sizeof(g))
        cdef bint valid = iof_pt_is_valid(self.lock())
        self.unlock(&g)
        return valid
