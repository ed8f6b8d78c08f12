# SPDX-License-Identifier: Apache-2.0
"""Table: a C page table with its locks."""
from libc.stdint cimport uint64_t
from iommufd_fast._core.ptargs cimport *

cdef extern from *:
    """
    static inline struct iof_pt *iofp_peek(struct iof_pt **p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline struct iof_pt *iofp_take(struct iof_pt **p) { return __atomic_exchange_n(p, NULL, __ATOMIC_ACQ_REL); }
    """
    iof_pt *iofp_peek(iof_pt **p) noexcept nogil
    iof_pt *iofp_take(iof_pt **p) noexcept nogil

# Not inside the Python object, whose memory is not aligned to cache lines.
cdef struct TableState:
    iof_rsec readers
    iof_alloc alloc
    iof_lock writer
    iof_pt *pt  # NULL once closed; read inside a section of `readers` or with `writer` held

cdef class Table:
    cdef TableState *state
    cdef readonly str format
    cdef object __weakref__

    cdef iof_pt *enter(self, unsigned int *token) except NULL  # a read section with an open table in it
    cdef void leave(self, unsigned int token) noexcept nogil
    cdef iof_pt *lock(self) except NULL  # the only writer
    cdef void unlock(self, iof_pt_gather *g) noexcept  # hands gathered tables back first
    cdef object geometry(self, str what)
    # The map path without Python objects. 0 or a negative errno; the bytes removed; UINT64_MAX for a hole.
    cdef int c_map(self, uint64_t iova, uint64_t address, uint64_t length, unsigned int prot) except? -1
    cdef uint64_t c_unmap(self, uint64_t iova, uint64_t length) except? 1
    cdef uint64_t c_translate(self, uint64_t iova, unsigned int *prot) except? 1
