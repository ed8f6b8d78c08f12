# SPDX-License-Identifier: Apache-2.0
"""Which handles stand for which ranges of one address space."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.threads cimport Guard, drop, take

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

ctypedef int (*Visit)(Node *node, void *arg) noexcept  # not 0: no more

cdef struct Books:  # a ledger's insides: what is passed around without counting references
    Guard guard
    unsigned long born
    Node head
    iof_index *index
    Py_ssize_t count

cdef class Ledger:
    cdef Books books

cdef class Home:
    cdef object __weakref__
    cdef Handle handle
    cdef Ledger ledger
    cdef readonly uint32_t id
    cdef str gone
    cdef int check(self) except -1
    cdef int refuse(self) except -1


cdef inline void lock(Books *self) noexcept:
    """Nothing of Python, and nothing that waits, until unlock(). A forked child has one thread, and locks that nobody drops."""
    if self.born == forks:
        take(&self.guard)


cdef inline void unlock(Books *self) noexcept:
    if self.born == forks:
        drop(&self.guard)

# All with the lock.

cdef inline void add(Books *self, Node *node) noexcept:
    node.sorted = False
    node.prev, node.next = self.head.prev, &self.head
    self.head.prev.next = node
    self.head.prev = node
    self.count += 1

cdef void remove(Books *self, Node *node) noexcept
cdef void visit(Books *self, uint64_t start, uint64_t last, Visit evicted, Visit found, void *arg) noexcept


cdef inline void leave(Books *self, Node *node) noexcept:
    """Without the lock: afterwards the node is in no list, and nobody who visits looks at its owner any more."""
    lock(self)
    if node.prev != NULL:
        remove(self, node)
    unlock(self)
