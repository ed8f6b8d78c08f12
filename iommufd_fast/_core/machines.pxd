# SPDX-License-Identifier: Apache-2.0
"""Machines as an extension type."""
from iommufd_fast._core.capi cimport iof_machine
from iommufd_fast._core.threads cimport Gate

cdef unsigned long forks  # how many lie behind this process

cdef unsigned long fork_count() noexcept nogil

cdef class MachineHandle:
    cdef iof_machine *m
    cdef unsigned long born
    cdef readonly str name
    cdef readonly str policy
    cdef Gate gate
    cdef int check(self) except -1
    cdef int enter(self) except -1
    cdef int leave(self) except -1
