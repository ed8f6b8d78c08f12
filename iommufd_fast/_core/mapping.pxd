# SPDX-License-Identifier: Apache-2.0
"""One mapping as a handle."""
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.ledger cimport Home, Node

cdef enum State:
    NEW
    LIVE
    BUSY
    CLOSED
    STALE

cdef class Mapping:
    cdef object __weakref__
    cdef Home core
    cdef object owner
    cdef object origin
    cdef Py_buffer view
    cdef bint exported
    cdef bint file
    cdef tuple parts
    cdef State state
    cdef uint32_t flags
    cdef uint64_t at, size, base
    cdef Node node
    cdef int enlist(self) except -1
    cdef int finish(self) except -1
    cdef int take_down(self) except? -1
    cdef int let_go(self) except -1

