# SPDX-License-Identifier: Apache-2.0
"""SpaceCore, for cimport."""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from iommufd_fast._core.capi_iova cimport iof_index_entry, iof_range
from iommufd_fast._core.iovashared cimport SpaceShared

cdef class SpaceCore(SpaceShared):
    # With the lock held, with or without the GIL. 0 or -errno.
    cdef int place(self, uint64_t length, uint64_t addr, uint64_t *iova) noexcept nogil
    cdef int take(self, uint64_t length, uint64_t addr, uint64_t *iova) noexcept nogil
    cdef int give(self, uint64_t iova, uint64_t length) noexcept nogil
    cdef bint look(self, uint64_t at, iof_range *out) noexcept nogil
    cdef bint first(self, iof_range inside, iof_range *out) noexcept nogil
    cdef void look_many(self, const uint64_t *at, size_t n, iof_index_entry *out) noexcept nogil
    cdef uint64_t live(self) noexcept nogil
    # Without the lock, between enter_batch() and leave_batch(). 0 or -errno; *failed: which one was refused, and none taken.
    cdef int take_many(self, const uint64_t *n, Py_ssize_t count, uint64_t addr, uint64_t *iova, Py_ssize_t *failed) noexcept nogil
    cdef int give_one(self, uint64_t iova, uint64_t length) noexcept nogil


cdef iof_range span(object start, object last) except *
