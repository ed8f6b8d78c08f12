# SPDX-License-Identifier: Apache-2.0
"""Arenas for cimport."""
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.capi_dma cimport iof_dma_arena
from iommufd_fast._core.dmamemory cimport DmaMemory
from iommufd_fast._core.ioascore cimport IoasCore
from iommufd_fast._core.threads cimport Gate

cdef class ArenaBase:
    cdef object __weakref__
    cdef iof_dma_arena *a
    cdef unsigned long born
    cdef Gate gate
    cdef Py_ssize_t exports  # of all buffers
    cdef bint drained  # nobody is inside any more, and the last view may destroy it
    cdef list regions
    cdef dict origins
    cdef object growing
    cdef object made
    cdef readonly IoasCore ioas
    cdef readonly uint64_t region, limit
    cdef readonly str page
    cdef readonly object numa
    cdef int release(self) except -1
    cdef int check(self) except -1
    cdef int enter(self) except -1
    cdef int refuse(self) except -1
    cdef int shut_down(self) except -1
    cdef list found(self)
    cdef list unmap(self)
    cdef str text(self)
    cdef int add(self, DmaMemory memory) except -1
