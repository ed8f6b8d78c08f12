# SPDX-License-Identifier: Apache-2.0
"""Caches of mappings for cimport."""
from libc.stdint cimport uint32_t

from iommufd_fast._core.capi_dma cimport iof_map_cache, iof_map_entry
from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.held cimport Held
from iommufd_fast._core.ioascore cimport IoasCore
from iommufd_fast._core.threads cimport Guard

cdef class CacheCore:
    cdef object __weakref__
    cdef iof_map_cache *c
    cdef void *told
    cdef unsigned long born
    cdef Handle handle
    cdef uint32_t flags
    cdef bint keep
    cdef Guard guard  # of c, ending and running
    cdef bint ending
    cdef Py_ssize_t running
    cdef dict kept
    cdef object made
    cdef readonly IoasCore ioas
    cdef int check(self) except -1
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef bint run(self) noexcept
    cdef void stop(self) noexcept
    cdef int drain(self) except -1
    cdef iof_map_cache *take_idle(self) noexcept
    cdef int own(self, iof_map_entry *entry, Held held) except -1
    cdef int forget(self) except -1
