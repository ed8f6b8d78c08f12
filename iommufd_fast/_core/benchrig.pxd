# SPDX-License-Identifier: Apache-2.0
"""The Rig that the measuring loops run on."""
from libc.stdint cimport uint32_t, uint64_t
from iommufd_fast._core.capi cimport iof_cmd_ioas_map, iof_handle, iof_machine

ctypedef int (*iofb_door)(iof_handle *h, unsigned long cmd, void *arg) noexcept nogil

cdef class Rig:
    cdef iof_machine *machine
    cdef iof_handle *ctx
    cdef iof_handle *dev
    cdef readonly uint32_t ioas_id
    cdef readonly uint32_t hwpt_id
    cdef bint tsc
    cdef iofb_door door
    cdef int _bind(self) except -1
    cdef int _space(self, bint huge_pages) except -1
    cdef int _attach(self) except -1
    cdef int _map(self, iof_cmd_ioas_map *m, uint64_t address, uint64_t length) noexcept nogil
    cdef int _unmap(self, uint64_t iova, uint64_t length) noexcept nogil

cdef uint64_t *u64(array, Py_ssize_t n) except NULL
