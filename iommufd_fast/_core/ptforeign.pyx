# SPDX-License-Identifier: Apache-2.0
"""ForeignPageTable: walks a page table in memory that is not ours: a guest's, a dump's, a file's."""
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset
from iommufd_fast._core.ptargs cimport *
from iommufd_fast._core.ptcore cimport Table
from iommufd_fast._core.ptmemory cimport Call, ForeignMemory

from collections import namedtuple
from errno import ENOENT, ERANGE

import numpy as np

from iommufd_fast._core._fail import fail

Step = namedtuple("Step", "level entry item", module=__name__)
Step.__doc__ = "One entry that a walk read: its level, its address, the entry (None when it could not be read)."

# Passes reads on and notes them; one walk reads no more than eight.
cdef struct Notes:
    iof_pt_memory memory
    uint64_t entries[8]
    uint64_t items[8]
    int errors[8]
    unsigned int n


cdef int read_noted(void *ctx, uint64_t address, uint64_t *entry) noexcept nogil:
    cdef Notes *notes = <Notes *>ctx
    cdef int err = notes.memory.read(notes.memory.ctx, address, entry)
    if notes.n < 8:
        notes.entries[notes.n], notes.items[notes.n], notes.errors[notes.n] = address, entry[0], err
        notes.n += 1
    return err


cdef object raised(tuple calls):  # what a callable raised inside C
    for call in calls:
        if call is not None and (<Call>call).error is not None:
            raise (<Call>call).error


cdef class ForeignPageTable:
    """A read-only walker over a page table somewhere else.

    Parameters
    ----------
    memory : callable, buffer, (buffer, base), sequence of (buffer, base) or mapping
        What table addresses mean. A callable takes an address and returns the 8-byte item there, or None for no memory.
        Buffers (also mmap, ndarray) are used in place, `base` is their first byte's address, 0 for a buffer alone; a
        mapping is {base: buffer}.
    format : str
        As for `PageTable`; so are `granule` and `features`.
    root : int
        Address of the top table, a multiple of its size.
    top_level : int, optional
        Its level; the lowest tables are at 0. By default as `PageTable` chooses it.
    va_bits, oa_bits : int, optional
        Widths; by default the widest of the format.
    through : PageTable or ForeignPageTable, optional
        The second stage, whose IOVAs are this one's addresses. `memory` is asked for what they translate to.

    Notes
    -----
    Tables are never trusted: a walk ends after `top_level` + 1 items. Permissions are what all levels and stages grant.
    walk() and translate() raise OSError for reserved bits (EINVAL) and for tables outside the memory (EFAULT), with the
    Fault as its `fault`; lookup() returns the Fault instead. Thread-safe as far as the callable is.
    """
    cdef iof_pt_foreign table
    cdef ForeignMemory memory
    cdef object through
    cdef readonly str format

    def __init__(self, memory, *, format, root, top_level=None, va_bits=None, oa_bits=None, through=None, granule=None,
                 **features):
        cdef iof_pt_config shape
        cdef int err = 0
        if self.memory is not None:
            raise TypeError("a ForeignPageTable is initialised once")
        pt_config(&self.table.cfg, format, va_bits, oa_bits, top_level, granule, features)
        self.table.root, self.table.top_level = pt_u64(root, "root"), self.table.cfg.top_level
        if top_level is None:
            err = iof_pt_shape(&self.table.cfg, &shape)
            self.table.top_level = shape.top_level
        err = err or iof_pt_foreign_check(&self.table)
        if err:
            fail(err, f"no {format} table has this shape: root={root}, top_level={top_level}, va_bits={va_bits}, "
                      f"oa_bits={oa_bits}; the root must be a multiple of its table's size")
        if through is not None and not isinstance(through, (Table, ForeignPageTable)):
            raise TypeError(f"through must be a page table, not {type(through).__name__}")
        if isinstance(through, ForeignPageTable) and (<ForeignPageTable>through).through is not None:
            raise ValueError("through is a table of two stages; there are no three")
        self.format, self.through, self.memory = format, through, ForeignMemory(memory)

    @property
    def root(self):
        """int: address of the top table."""
        return self.table.root

    @property
    def top_level(self):
        """int: level of the top table; the lowest tables are at 0."""
        return self.table.top_level

    cdef Call view(self, iof_pt_foreign *out):  # valid while the returned Call (or None) lives
        out[0] = self.table
        return self.memory.fill(&out.memory)

    cdef tuple nested(self, iof_pt_nested *out):  # both stages, all but a PageTable's own pointer
        memset(out, 0, sizeof(out[0]))
        second = None
        if isinstance(self.through, ForeignPageTable):
            second = (<ForeignPageTable>self.through).view(&out.second_foreign)
        return self.view(&out.first), second

    cdef int find(self, uint64_t iova, iof_pt_leaf *leaf, iof_pt_nested_fault *fault) except? -1:
        """0 or a fault's errno; what a callable raises is raised."""
        cdef iof_pt_nested both
        cdef unsigned int token
        cdef tuple calls = self.nested(&both)
        cdef int err
        memset(fault, 0, sizeof(fault[0]))
        fault.stage, fault.fetch_level = 1, IOF_PT_NO_FETCH
        if self.through is None:
            err = iof_pt_walk_foreign(&both.first, iova, leaf, &fault.fault)
        elif isinstance(self.through, ForeignPageTable):
            err = iof_pt_walk_nested(&both, iova, leaf, fault)
        else:
            both.second = (<Table>self.through).enter(&token)
            err = iof_pt_walk_nested(&both, iova, leaf, fault)
            (<Table>self.through).leave(token)
        raised(calls)
        return err

    cdef object fault_of(self, const iof_pt_nested_fault *fault):
        return pt_fault(&fault.fault, fault.stage, None if fault.fetch_level == IOF_PT_NO_FETCH else fault.fetch_level)

    cdef int find_or_raise(self, uint64_t iova, iof_pt_leaf *leaf) except? -1:
        """0, -ENOENT or -ERANGE; other faults are raised."""
        cdef iof_pt_nested_fault fault
        cdef int err = self.find(iova, leaf, &fault)
        if err and -err not in (ENOENT, ERANGE):
            record = self.fault_of(&fault)
            try:
                fail(err, f"walk {iova:#x} from {self.table.root:#x}: {record}")
            except OSError as error:
                error.fault = record
                raise
        return err

    def lookup(self, iova):
        """The leaf that translates `iova`, or the Fault that says why and where there is none."""
        cdef iof_pt_leaf leaf
        cdef iof_pt_nested_fault fault
        return self.fault_of(&fault) if self.find(pt_u64(iova, "iova"), &leaf, &fault) else pt_leaf(&leaf)

    def walk(self, iova):
        """The leaf that translates `iova`, as a Leaf, or None; `dirty` is that of the one item read."""
        cdef iof_pt_leaf leaf
        return None if self.find_or_raise(pt_u64(iova, "iova"), &leaf) else pt_leaf(&leaf)

    def translate(self, iova):
        """The address that `iova` translates to, or None."""
        cdef iof_pt_leaf leaf
        cdef uint64_t at = pt_u64(iova, "iova")
        return None if self.find_or_raise(at, &leaf) else leaf.address + (at - leaf.iova)

    def translate_many(self, iovas):
        """Translate n IOVAs: (addresses, prots) as PageTable.translate_many() returns them.

        With two stages, all faults are holes, and the GIL is released unless a callable is in the way.
        """
        cdef iof_pt_leaf leaf
        cdef size_t i, n
        cdef unsigned int token = 0
        cdef iof_pt_nested both
        iovas = pt_array(iovas, "iovas", -1)
        n = len(iovas)
        addresses, prots = np.full(n, 2**64 - 1, np.uint64), np.zeros(n, np.uint8)
        cdef uint64_t *at = pt_data(iovas)
        cdef uint64_t *to = pt_data(addresses)
        cdef uint8_t *bits = <uint8_t *>pt_data(prots)
        if self.through is None:
            for i in range(n):
                if not self.find_or_raise(at[i], &leaf):
                    to[i], bits[i] = leaf.address + (at[i] - leaf.iova), leaf.prot
            return addresses, prots
        cdef tuple calls = self.nested(&both)
        cdef Table second = self.through if isinstance(self.through, Table) else None
        if second is not None:
            both.second = second.enter(&token)
        with nogil:
            iof_pt_translate_nested(&both, at, n, to, bits)
        if second is not None:
            second.leave(token)
        raised(calls)
        return addresses, prots

    cdef object next_record(self, uint64_t start, uint64_t last):
        cdef iof_pt_foreign table
        cdef iof_pt_leaf leaf
        cdef iof_pt_fault fault
        cdef iof_range within = [start, last]
        cdef Call call = self.view(&table)
        cdef int err = iof_pt_next_foreign(&table, within, &leaf, &fault)
        raised((call,))
        if not err:
            return pt_leaf(&leaf)
        return None if err == -ENOENT else pt_fault(&fault, 1, None)

    def scan(self, start=0, last=2**64 - 1):
        """Iterate over the leaves, and over the faults that hide a part, of [start, last], ascending.

        A table that points to one above itself is a fault; one that many entries share comes as often as they say.
        """
        if self.through is not None:
            raise ValueError("scan and leaves list one stage; this table has two")
        at, last = pt_u64(start, "start"), pt_u64(last, "last")
        while at <= last and (record := self.next_record(at, last)) is not None:
            yield record
            at = record.last + 1 if hasattr(record, "reason") else record.iova + record.size

    def leaves(self, start=0, last=2**64 - 1):
        """Iterate over the leaves that intersect [start, last], ascending; what faults hide is passed over."""
        return (record for record in self.scan(start, last) if not hasattr(record, "reason"))

    def path(self, iova):
        """The entries that a walk reads, from the root down, as a list of Step."""
        cdef Notes notes
        cdef iof_pt_foreign table
        cdef iof_pt_leaf leaf
        cdef iof_pt_fault fault
        if self.through is not None:
            raise ValueError("path shows one stage; this table has two")
        cdef Call call = self.view(&table)
        memset(&notes, 0, sizeof(notes))
        notes.memory = table.memory
        table.memory = iof_pt_memory(read_noted, NULL, &notes)
        iof_pt_walk_foreign(&table, pt_u64(iova, "iova"), &leaf, &fault)
        raised((call,))
        return [Step(self.table.top_level - i, notes.entries[i], None if notes.errors[i] else notes.items[i])
                for i in range(notes.n)]

    def _repr_svg_(self):
        from iommufd_fast._core._picture import svg_of
        return svg_of(self) if self.through is None else None

    def __repr__(self):
        second = f" through {self.through!r}" if self.through is not None else ""
        return f"<ForeignPageTable {self.format} top level {self.top_level} at {self.root:#x}{second}>"
