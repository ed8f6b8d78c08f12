# SPDX-License-Identifier: Apache-2.0
"""ForeignPageTable: walks a page table in memory that is not ours: a guest's, a dump's, a file's."""
from libc.errno cimport EFAULT
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from iommufd_fast._core.ptargs cimport *

from errno import ENOENT, ERANGE

import numpy as np

from iommufd_fast._core._fail import fail

cdef struct Segment:
    uint64_t base
    uint64_t size  # bytes
    const uint8_t *data

cdef struct Segments:
    Segment *at  # by ascending base
    size_t n


cdef int read_segment(void *ctx, uint64_t address, uint64_t *entry) noexcept nogil:
    """The 8-byte item at an address of the segments, in one access: others may be writing."""
    cdef Segments *s = <Segments *>ctx
    cdef size_t low = 0, high = s.n, mid
    while low < high:
        mid = low + (high - low) // 2
        if s.at[mid].base <= address:
            low = mid + 1
        else:
            high = mid
    if not low:
        return -EFAULT
    low -= 1
    if address - s.at[low].base >= s.at[low].size or s.at[low].size - (address - s.at[low].base) < 8:
        return -EFAULT
    entry[0] = (<const uint64_t *>(s.at[low].data + (address - s.at[low].base)))[0]
    return 0


cdef int read_nothing(void *ctx, uint64_t address, uint64_t *entry) noexcept nogil:
    entry[0] = 0
    return 0


cdef class ForeignPageTable:
    """A read-only walker over a page table somewhere else.

    Parameters
    ----------
    memory : callable, mapping, (buffer, base) or sequence of (buffer, base)
        What table addresses mean. A callable takes an address and returns the 8-byte item there as an int, or None for
        no memory. Buffers (bytes-like or ndarray) are used in place, `base` is the address of their first byte; a
        mapping is {base: buffer}.
    format : str
        As for `PageTable`; so are `granule` and `features`.
    root : int
        Address of the top table, a multiple of its size.
    top_level : int
        Its level; the lowest tables are at 0.
    va_bits, oa_bits : int, optional
        Widths; by default the widest of the format.

    Notes
    -----
    Tables are never trusted: a walk ends after at most `top_level` + 1 items; reserved bits and impossible levels are
    OSError (EINVAL), a table outside the memory is OSError (EFAULT). Thread-safe as far as the callable is.
    """
    cdef iof_pt_config cfg
    cdef uint64_t root
    cdef unsigned int top_level
    cdef Segments segments
    cdef object reader
    cdef tuple buffers

    def __init__(self, memory, *, format, root, top_level, va_bits=None, oa_bits=None, granule=None, **features):
        if self.segments.at != NULL or self.reader is not None:
            raise TypeError("a ForeignPageTable is initialised once")
        pt_config(&self.cfg, format, va_bits, oa_bits, top_level, granule, features)
        self.root, self.top_level = pt_u64(root, "root"), self.cfg.top_level
        cdef iof_pt_leaf leaf
        cdef int err = iof_pt_walk_foreign(&self.cfg, self.root, self.top_level, read_nothing, NULL, 0, &leaf)
        if err != -ENOENT:
            fail(err, f"no {format} table has this shape: root={root}, top_level={top_level}, va_bits={va_bits}, "
                      f"oa_bits={oa_bits}; the root must be a multiple of its table's size")
        if callable(memory):
            self.reader = memory
        else:
            self.take_buffers(memory)

    def __dealloc__(self):
        free(self.segments.at)

    cdef int take_buffers(self, object memory) except -1:
        pairs = [(b, a) for a, b in memory.items()] if hasattr(memory, "items") else memory
        if isinstance(pairs, tuple) and len(pairs) == 2 and hasattr(pairs[1], "__index__"):
            pairs = [pairs]
        parts = sorted(((pt_u64(base, "base"), bytes_of(buffer)) for buffer, base in pairs), key=lambda part: part[0])
        for (base, part), (after, _) in zip(parts, parts[1:]):
            if base + part.nbytes > after:
                raise ValueError(f"the buffers at {base:#x} and {after:#x} overlap")
        self.segments.at = <Segment *>malloc(max(1, len(parts)) * sizeof(Segment))
        if self.segments.at == NULL:
            raise MemoryError()
        for i, (base, part) in enumerate(parts):
            self.segments.at[i] = Segment(base, part.nbytes, <const uint8_t *>pt_data(part))
        self.segments.n = len(parts)
        self.buffers = tuple(part for _, part in parts)
        return 0

    cdef int find(self, uint64_t iova, iof_pt_leaf *leaf) except? -1:
        """0, -ENOENT or -ERANGE; other errnos are raised."""
        cdef Call call
        cdef int err
        if self.reader is None:
            err = iof_pt_walk_foreign(&self.cfg, self.root, self.top_level, read_segment, &self.segments, iova, leaf)
        else:
            call = Call(self.reader)
            err = iof_pt_walk_foreign(&self.cfg, self.root, self.top_level, read_call, <void *>call, iova, leaf)
            if call.error is not None:
                raise call.error
        if err and -err not in (ENOENT, ERANGE):
            fail(err, f"walk {iova:#x} from {self.root:#x}: " +
                 ("a table is outside the memory" if err == -EFAULT else "reserved bits, or an impossible level"))
        return err

    def walk(self, iova):
        """The leaf that translates `iova`, as a Leaf, or None; `dirty` is that of the one item read."""
        cdef iof_pt_leaf leaf
        return None if self.find(pt_u64(iova, "iova"), &leaf) else pt_leaf(&leaf)

    def translate(self, iova):
        """The address that `iova` translates to, or None."""
        cdef iof_pt_leaf leaf
        cdef uint64_t at = pt_u64(iova, "iova")
        return None if self.find(at, &leaf) else leaf.address + (at - leaf.iova)

    def translate_many(self, iovas):
        """Translate n IOVAs: (addresses, prots) as PageTable.translate_many() returns them."""
        cdef iof_pt_leaf leaf
        cdef size_t i
        iovas = pt_array(iovas, "iovas", -1)
        addresses, prots = np.full(len(iovas), 2**64 - 1, np.uint64), np.zeros(len(iovas), np.uint8)
        cdef uint64_t *at = pt_data(iovas)
        cdef uint64_t *to = pt_data(addresses)
        cdef uint8_t *bits = <uint8_t *>pt_data(prots)
        for i in range(<size_t>len(iovas)):
            if not self.find(at[i], &leaf):
                to[i] = leaf.address + (at[i] - leaf.iova)
                bits[i] = leaf.prot
        return addresses, prots

    def __repr__(self):
        return f"<ForeignPageTable top level {self.top_level} at {self.root:#x}>"


cdef class Call:
    """A callable as a reader of items: its exception is kept for when C has come back."""
    cdef object function, error

    def __init__(self, function):
        self.function = function


cdef int read_call(void *ctx, uint64_t address, uint64_t *entry) noexcept nogil:
    with gil:
        return call_reader(<Call>ctx, address, entry)


cdef int call_reader(Call call, uint64_t address, uint64_t *entry) noexcept:
    try:
        item = call.function(address)
        if item is None:
            return -EFAULT
        entry[0] = pt_u64(item, "the item that the reader returned")
    except BaseException as e:
        call.error = e
        return -EFAULT
    return 0


cdef object bytes_of(object buffer):
    """A view of a buffer's bytes, never a copy."""
    array = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    if not array.flags.c_contiguous:
        raise ValueError("a buffer must be contiguous")
    return array.reshape(-1).view(np.uint8)
