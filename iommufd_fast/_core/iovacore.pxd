# SPDX-License-Identifier: Apache-2.0
"""SpaceCore, for cimport."""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from iommufd_fast._core.capi_iova cimport iof_alloc, iof_index_entry, iof_lock, iof_range, iof_recycle, iof_space

cdef class SpaceCore:
    cdef iof_alloc heap
    cdef iof_lock lock
    cdef iof_space *space # NULL when closed
    cdef iof_recycle *recycle # NULL for first_fit
    cdef uint64_t granule
    cdef object __weakref__

    # With the lock held, with or without the GIL. 0 or -errno.
    cdef int place(self, uint64_t length, uint64_t addr, uint64_t *iova) noexcept nogil
    cdef int take(self, uint64_t length, uint64_t addr, uint64_t *iova) noexcept nogil
    cdef int give(self, uint64_t iova, uint64_t length) noexcept nogil
    cdef bint look(self, uint64_t at, iof_range *out) noexcept nogil
    cdef bint first(self, iof_range inside, iof_range *out) noexcept nogil
    cdef void look_many(self, const uint64_t *at, size_t n, iof_index_entry *out) noexcept nogil
    cdef uint64_t live(self) noexcept nogil
    # Takes the lock; call it with the GIL.
    cdef int enter(self) except -1

cdef iof_range span(object start, object last) except *
