# SPDX-License-Identifier: Apache-2.0
"""Machines as an extension type."""
from iommufd_fast._core.capi cimport iof_machine

cdef unsigned long fork_count() noexcept nogil

cdef class MachineHandle:
    cdef iof_machine *m
    cdef unsigned long born
    cdef readonly str name
    cdef readonly str policy
    cdef int check(self) except -1
