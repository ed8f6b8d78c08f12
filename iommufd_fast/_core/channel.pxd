# SPDX-License-Identifier: Apache-2.0
"""Machines and open files as extension types: lifetime, fork and the raw door. Commands are built on top (commands.pxd)."""
from iommufd_fast._core.capi cimport iof_handle, iof_machine


cdef unsigned long fork_count() noexcept nogil

cdef class MachineHandle:
    cdef iof_machine *m
    cdef unsigned long born
    cdef readonly str name
    cdef readonly str policy
    cdef int check(self) except -1

cdef class Handle:
    cdef iof_handle *h
    cdef unsigned long born
    cdef Py_ssize_t users
    cdef object drained
    cdef readonly str name
    cdef readonly MachineHandle machine
    cdef int check(self) except -1
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef int raw(self, unsigned long number, void *arg) except? -1
