# SPDX-License-Identifier: Apache-2.0
"""Which handles stand for which ranges of one address space."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.channel cimport Handle

cdef extern from "util/range.h" nogil:
    struct iof_range:
        uint64_t start, last

cdef extern from "iova/index.h" nogil:
    struct iof_index:
        pass

cdef struct Node:
    Node *prev
    Node *next
    uint64_t start, last
    PyObject *owner
    bint sorted

cdef class Ledger:
    cdef Node head
    cdef iof_index *index
    cdef Py_ssize_t count
    cdef void add(self, Node *node) noexcept
    cdef void remove(self, Node *node) noexcept
    cdef list collect(self, uint64_t start, uint64_t last, list evicted)

cdef class Home:
    cdef object __weakref__
    cdef Handle handle
    cdef Ledger ledger
    cdef readonly uint32_t id
    cdef str gone
    cdef int check(self) except -1
