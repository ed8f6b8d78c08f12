# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The address index of an IOAS: from an address to its IOVA. `iommufd_fast.addressing` has the words around it.

A look-up keeps the GIL: it takes some nanoseconds, and waits for others only where an address is mapped twice, and no
longer than for one change of the index.
"""
from libc.stdint cimport uint32_t, uint64_t

cimport numpy as cnp

from iommufd_fast._core.args cimport u64, u64_values
from iommufd_fast._core.capi_memory cimport *
from iommufd_fast._core.commands cimport ContextHandle
from iommufd_fast._core.holding cimport hold, release

import numpy as np

cnp.import_array()

cdef Py_ssize_t SHORT = 64  # so many are asked for without giving up the GIL


cdef class VaIndex:
    """One reference to an index; made by `open_index`."""

    cdef iof_va_index *ix

    def __dealloc__(self):
        iof_va_index_put(self.ix)
        self.ix = NULL

    def find(self, memory, length):
        """(IOVA, bytes to the end of the mapping, address, bytes asked for); 0 bytes to the end: not mapped."""
        cdef Py_buffer view
        cdef bint exported = False
        cdef uint64_t base, size, rest = 0, iova
        if not cnp.PyArray_Check(memory) and (isinstance(memory, int) or hasattr(memory, "__index__")):
            base = u64(memory, "address")
            size = 1 if length is None else u64(length, "length")
        else:
            hold(memory, False, &view, &exported, &base, &size)
            release(&view, &exported)
            if length is not None:
                if u64(length, "length") > size:
                    raise ValueError(f"length {length:#x} is more than the {size:#x} bytes of the "
                                     f"{type(memory).__name__}")
                size = u64(length, "length")
        iova = iof_va_to_iova(self.ix, base, &rest)
        return iova, rest, base, size

    def find_many(self, addresses):
        """uint64 arrays of IOVAs and lengths."""
        cdef cnp.ndarray a = u64_values(addresses, "addresses")
        cdef size_t n = a.shape[0]
        cdef cnp.ndarray iovas = np.empty(n, np.uint64)
        cdef cnp.ndarray rest = np.empty(n, np.uint64)
        cdef const uint64_t *at = <const uint64_t *>cnp.PyArray_DATA(a)
        cdef uint64_t *to = <uint64_t *>cnp.PyArray_DATA(iovas)
        cdef uint64_t *lengths = <uint64_t *>cnp.PyArray_DATA(rest)
        if n <= <size_t>SHORT:
            iof_va_to_iova_many(self.ix, n, at, to, lengths)
        else:
            with nogil:
                iof_va_to_iova_many(self.ix, n, at, to, lengths)
        return iovas, rest

    def stats(self):
        """(mappings, bytes of the index, tables, knots)."""
        cdef iof_va_stats s
        iof_va_index_stats(self.ix, &s)
        return s.runs, s.bytes, s.tables, s.knots


def open_index(ContextHandle h not None, uint32_t ioas):
    """The index of an IOAS, made when nobody has asked before: a VaIndex, or a negative errno."""
    cdef VaIndex self = VaIndex.__new__(VaIndex)
    cdef int err
    h.enter()
    with nogil:
        err = iof_va_index_open(h.h, ioas, &self.ix)
    h.leave()
    return self if err == 0 else err
