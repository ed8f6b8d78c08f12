# SPDX-License-Identifier: Apache-2.0
"""SpaceShared, for cimport."""
from libc.stdint cimport uint64_t

from iommufd_fast._core.capi_iova cimport iof_alloc, iof_lock, iof_magazines, iof_recycle, iof_space

cdef class SpaceShared:
    cdef iof_alloc heap
    cdef iof_lock lock
    cdef iof_space *space # NULL when closed
    cdef iof_recycle *recycle # NULL for first_fit
    cdef iof_magazines *magazines # over recycle, which is used through them only
    cdef bint shared # there are magazines, or were before it was closed
    cdef int users # batches that take and give without the lock; changed with it
    cdef uint64_t granule
    cdef object __weakref__

    # Takes the lock; call it with the GIL. `alone`: and no batch is at work without it.
    cdef int enter(self, bint alone=*) except -1
    cdef void take_alone(self) noexcept nogil
    # Around a batch that takes from magazines without the lock. leave() needs no GIL.
    cdef int enter_batch(self) except -1
    cdef void leave_batch(self) noexcept nogil
