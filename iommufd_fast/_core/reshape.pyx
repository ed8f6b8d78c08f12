# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Large maps over threads, replacing memory, counting entries. `iommufd_fast.reshaping` has the words around it."""
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.capi cimport iof_policy
from iommufd_fast._core.capi_memory cimport *
from iommufd_fast._core.commands cimport ContextHandle
from iommufd_fast._core.ledger cimport lock, unlock
from iommufd_fast._core.mapping cimport Mapping

cimport cython


cdef int tell(void *arg, uint64_t done, uint64_t total) noexcept with gil:
    """Called by C in the thread that called map_parallel; what the callback raises comes out there."""
    cdef Progress self = <Progress><PyObject *>arg
    try:
        return 1 if self.call(done, total) is False else 0
    except BaseException as error:
        self.error = error
        return 1


@cython.internal
cdef class Progress:
    cdef object call, error


def map_parallel(ContextHandle h not None, uint32_t ioas, uint32_t flags, int policy, uint64_t address, uint64_t length,
                 uint64_t iova, uint32_t threads, progress):
    """(0 or a negative errno, IOVA, how many pieces, what the callback raised)."""
    cdef iof_map_parallel_args m
    cdef Progress p = Progress.__new__(Progress)
    cdef int err
    p.call = progress
    m.size = sizeof(m)
    m.ioas_id, m.flags, m.policy, m.threads = ioas, flags, <iof_policy>policy, threads
    m.address, m.length, m.iova, m.piece, m.pieces = address, length, iova, 0, 0
    m.progress = NULL
    if progress is not None:
        m.progress = tell
    m.arg = <void *>p
    h.enter()
    with nogil:
        err = iof_map_parallel(h.h, &m)
    h.leave()
    return err, m.iova, m.pieces, p.error


def replace(ContextHandle h not None, uint32_t ioas, uint32_t flags, int policy, uint64_t iova, uint64_t length,
            uint64_t address):
    cdef iof_replace_args rq = iof_replace_args(sizeof(rq), ioas, flags, <iof_policy>policy, iova, length, address)
    cdef int err
    h.enter()
    with nogil:
        err = iof_replace(h.h, &rq)
    h.leave()
    return err


def entries(ContextHandle h not None, uint32_t ioas):
    """(mappings, coalesced, limit, {bytes: leaves} or None, fewest leaves), or a negative errno."""
    cdef iof_ioas_entries_out e
    cdef int err
    h.enter()
    with nogil:
        err = iof_ioas_entries(h.h, ioas, &e)
    h.leave()
    if err < 0:
        return err
    leaves = {1 << i: e.leaves[i] for i in range(64) if e.leaves[i]} if e.has_leaves else None
    return e.mappings, e.coalesced, e.limit, leaves, e.fewest


def trim(Mapping m not None, uint64_t inside, uint64_t size):
    """A handle for whole pages becomes one for `size` bytes of them, `inside` bytes behind their beginning."""
    lock(&m.core.ledger.books)  # another thread's sweep may look at it
    m.at, m.base, m.size = m.at + inside, m.base + inside, size
    unlock(&m.core.ledger.books)
    return m
